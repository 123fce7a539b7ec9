import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { checkout, launcher } from '../support/daemon-paths.ts';
import { launch, listeningOn, type DaemonOptions, type Running } from '../support/daemon.ts';
import { crowd } from '../support/inherited-socket.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { startRecordingTunnel } from '../support/recording-tunnel.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { startTokenEndpoint, type TokenEndpoint } from '../support/token-endpoint.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const program = join(checkout, 'scripts', 'keys', 'openai-oidc');
const ids = ['--identity-provider-id', 'idp_1', '--service-account-id', 'sa_1'];
const github = [...ids, '--oidc-audience', 'https://api.openai.com/v1?a=b'];

beforeEach((context) => {
  if (!context.task.name.startsWith('shellcheck')) needs(context, 'command curl', 'command jq');
});

function flags(endpoint: TokenEndpoint, args: readonly string[]): string[] {
  return [...args, '--token-url', `${endpoint.origin}/oauth/token`];
}

/** The feeder alone. */
function feed(endpoint: TokenEndpoint, args: readonly string[], options: DaemonOptions = {}): Running {
  return launch({ ...options, launcher: program, args: flags(endpoint, args), stdin: 'ignore', env: { CURL_CA_BUNDLE: caFile(), ...endpoint.githubEnv, ...options.env } });
}

function expectNothingSecret(text: string, endpoint: TokenEndpoint): void {
  for (const secret of [endpoint.githubToken, ...endpoint.subjects, ...endpoint.issued]) expectNoPieceOf(secret, text, 12);
}

/** Feeder and daemon as a pipeline; the upstream answers 401 to what has expired. */
async function pipeline(endpoint: TokenEndpoint, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<{ port: number; running: Running; keys: () => string[] }> {
  const upstream = await startUpstream({
    answer: (request) => answer(endpoint.isValid(request.values('authorization')[0]?.replace(/^Bearer /, '') ?? '') ? 200 : 401, '{}'),
  });
  const running = launch({
    launcher: 'sh',
    args: ['-c', '"$0" "$@" | exec "$DAEMON" --renewable-key --upstream-proxy none $UPSTREAM', program, ...flags(endpoint, args)],
    stdin: 'ignore',
    env: { CURL_CA_BUNDLE: caFile(), DAEMON: launcher, UPSTREAM: upstream.args.join(' '), ...endpoint.githubEnv, ...env },
  });
  const [, port] = await running.waitForStderr(/listening on 127\.0\.0\.1:(\d+)\n/, 30_000);
  return { running, port: Number(port), keys: () => [...new Set(upstream.requests.map((request) => request.values('authorization')[0] ?? ''))] };
}

describe('the daemon behind it serves without one failed request', () => {
  test.for([
    ['as the contract says', [], false],
    ['with errors, slow answers and broken connections', [{ afterMs: 1_000 }, { status: 503, body: 'oops' }, 'hang up', 'issue', { status: 429, body: '{"error":{"code":"rate_limit_exceeded"}}' }, { status: 400, body: '{"error":"invalid_grant"}' }, { afterMs: 1_000 }, { status: 200, body: '{"access_token":"x"}' }], false],
    ['through a proxy', ['issue', { status: 500, body: '' }], true],
  ] as const)('%s', { timeout: 120_000 }, async ([, plan, isProxied]) => {
    const endpoint = await startTokenEndpoint(24);
    endpoint.plan(...plan);
    const tunnel = isProxied ? await startRecordingTunnel() : undefined;
    const { port, running, keys } = await pipeline(endpoint, github, tunnel === undefined ? {} : { HTTPS_PROXY: tunnel.url });
    const clients = crowd(port, { clients: 2 });
    await endpoint.until(() => endpoint.issued.length >= 4, 'four tokens', 90_000);
    await running.waitForStderr(/(the key was renewed[^]*){3}/, 20_000);
    expect(await clients.stop()).toEqual({});
    expect(keys().length).toBeGreaterThanOrEqual(3);
    if (tunnel !== undefined) expect(tunnel.tunnels).toBeGreaterThanOrEqual(8);
    expectNothingSecret(running.stderr, endpoint);
  });
});

test('it ends with the daemon, so that a pipeline does too', { timeout: 40_000 }, async () => {
  const endpoint = await startTokenEndpoint(3_600);
  const { running, port } = await pipeline(endpoint, github);
  const found = listeningOn(running, port);
  const pid = Number((await runTool('sh', ['-c', `for folder in /proc/[0-9]*; do case $(tr '\\0' ' ' <$folder/cmdline 2>/dev/null) in *dist/main.js*) [ "$(cut -d' ' -f5 $folder/stat)" = ${found.pid} ] && echo "\${folder#/proc/}"; esac; done`])).stdout.trim());
  process.kill(pid, 'SIGTERM');
  expect((await running.waitForExit(20_000)).code).toBe(0);
});

describe('the subject token', () => {
  test('comes from GitHub, with the audience asked for', async () => {
    const endpoint = await startTokenEndpoint(3_600);
    const feeder = feed(endpoint, github);
    await endpoint.until(() => endpoint.issued.length === 1, 'a token');
    await expect.poll(() => feeder.stdout, { timeout: 10_000 }).toBe(`${endpoint.issued[0]}\n`);
    expect(endpoint.exchanges).toEqual([{
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      subject_token: [...endpoint.subjects][0],
      identity_provider_id: 'idp_1',
      service_account_id: 'sa_1',
    }]);
    expect(feeder.stderr).toBe('');
  });

  test('comes from a file, as it is when it is needed', async () => {
    const endpoint = await startTokenEndpoint(4);
    const file = join(scratchFolder(), 'token');
    writeFileSync(file, 'one.two.three\n');
    endpoint.subjects.add('one.two.three').add('four.five.six');
    feed(endpoint, [...ids, '--subject-token-file', file]);
    await endpoint.until(() => endpoint.issued.length === 1, 'a token');
    writeFileSync(file, 'four.five.six');
    await endpoint.until(() => endpoint.issued.length === 2, 'the next', 15_000);
    expect(endpoint.exchanges.map((body) => body['subject_token'])).toEqual(['one.two.three', 'four.five.six']);
  });
});

describe('failures', () => {
  test('a refusal before the first token ends it, with the server\'s code and nothing else of its answer', async () => {
    const endpoint = await startTokenEndpoint(3_600);
    const file = join(scratchFolder(), 'token');
    const subject = 'unknown.subject.token-0123456789';
    writeFileSync(file, subject);
    const exit = await feed(endpoint, [...ids, '--subject-token-file', file]).waitForExit(20_000);
    expect(exit).toMatchObject({ code: 1, stdout: '' });
    expect(exit.stderr).toContain('OpenAI answered 401: invalid_subject_token');
    expectNoPieceOf(subject, exit.stderr, 12);
  });

  test('an error code that is none is not repeated', async () => {
    const endpoint = await startTokenEndpoint(3_600);
    endpoint.plan({ status: 400, body: `{"error":"${'Secret.Token-1'.repeat(3)}"}` });
    const exit = await feed(endpoint, github).waitForExit(20_000);
    expect(exit.stderr).toContain('OpenAI answered 400: no error code');
    expect(exit.stderr).not.toContain('Secret');
  });

  test('at first it tries again after what may pass', { timeout: 30_000 }, async () => {
    const endpoint = await startTokenEndpoint(3_600);
    endpoint.plan({ status: 503, body: '' }, 'hang up');
    const feeder = feed(endpoint, github);
    await expect.poll(() => feeder.stdout, { timeout: 20_000 }).toMatch(/^\S+\n$/);
    expect(feeder.stderr).toMatch(/answered 503: no error code\n.*no answer \(curl: exit code \d+\)\n/);
  });

  test.for([
    ['no flags', [], 2],
    ['both sources', [...github, '--subject-token-file', '/x'], 2],
    ['no source', ids, 2],
    ['an unknown flag', [...github, '--nonsense', 'x'], 2],
    ['a flag without its value', [...ids, '--oidc-audience'], 2],
    ['cleartext to elsewhere', [...github, '--token-url', 'http://example.com/'], 2],
    ['GitHub without its variables', github, 1],
  ] as const)('%s', async ([what, args, code]) => {
    const result = await runTool('env', ['-u', 'ACTIONS_ID_TOKEN_REQUEST_TOKEN', program, ...args]);
    expect(result, what).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(/^openai-oidc: .+\n$/) });
  });
});

test('no secret is in the arguments or the environment of a program that it runs', async () => {
  const endpoint = await startTokenEndpoint(3_600);
  const folder = scratchFolder();
  const log = scratchFolder();
  for (const name of ['curl', 'jq', 'tr', 'date', 'timeout', 'tail', 'sleep']) {
    const real = (await runTool('sh', ['-c', `command -v ${name}`])).stdout.trim();
    const file = join(folder, name);
    writeFileSync(file, `#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ > '${log}/${name}'.$$\nexec '${real}' "$@"\n`);
    chmodSync(file, 0o755);
  }
  const feeder = feed(endpoint, github, { env: { PATH: `${folder}:${process.env['PATH'] ?? ''}` } });
  await expect.poll(() => feeder.stdout, { timeout: 20_000 }).toMatch(/^\S+\n$/);
  await feeder.stop();
  const files = readdirSync(log);
  expect(files.filter((name) => name.startsWith('curl'))).toHaveLength(2);
  for (const name of files) expectNothingSecret(readFileSync(join(log, name), 'latin1'), endpoint);
});

test('shellcheck finds nothing', async (context) => {
  needs(context, 'command shellcheck');
  expect(await runTool('shellcheck', ['--shell=sh', '--enable=check-unassigned-uppercase', program])).toEqual({ code: 0, stdout: '', stderr: '' });
});
