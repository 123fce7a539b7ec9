import { join } from 'node:path';
import { caFile } from './certificates.ts';
import { checkout, launcher } from './daemon-paths.ts';
import { launch, type Running } from './daemon.ts';
import { expectNoPieceOf } from './messages.ts';
import type { TokenEndpoint } from './token-endpoint.ts';
import { answer, startUpstream } from './upstream.ts';

/** The feeder of short-lived tokens. */
export const program = join(checkout, 'scripts', 'keys', 'openai-oidc');
export const ids = ['--identity-provider-id', 'idp_1', '--service-account-id', 'sa_1'];
/** What it needs to know where GitHub says who asks. */
export const github = [...ids, '--oidc-audience', 'https://api.openai.com/v1?a=b'];

/** Its arguments, with an endpoint of the test's. */
export function flags(endpoint: TokenEndpoint, args: readonly string[]): string[] {
  return [...args, '--token-url', `${endpoint.origin}/oauth/token`];
}

export function expectNothingSecret(text: string, endpoint: TokenEndpoint): void {
  for (const secret of [endpoint.githubToken, ...endpoint.subjects, ...endpoint.issued]) expectNoPieceOf(secret, text, 12);
}

/** Feeder and daemon as a pipeline; the upstream answers 401 to what has expired. */
export async function pipeline(endpoint: TokenEndpoint, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<{ port: number; running: Running; keys: () => string[] }> {
  const upstream = await startUpstream({
    answer: (request) => answer(endpoint.isValid(request.values('authorization')[0]?.replace(/^Bearer /, '') ?? '') ? 200 : 401, '{}'),
  });
  const running = launch({
    launcher: 'sh',
    args: ['-c', '"$0" "$@" | exec "$DAEMON" --renewable-key --upstream-proxy none $UPSTREAM', program, ...flags(endpoint, args)],
    stdin: 'ignore',
    env: { CURL_CA_BUNDLE: caFile(), DAEMON: launcher, UPSTREAM: upstream.args.join(' '), ...endpoint.githubEnv, ...env },
  });
  const [, port] = await running.waitForStderr(/listening on 127\.0\.0\.1:(\d+)\n/);
  return { running, port: Number(port), keys: () => [...new Set(upstream.requests.map((request) => request.values('authorization')[0] ?? ''))] };
}
