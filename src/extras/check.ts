/**
 * A start that stops short of the key (`--check`): everything is looked at in the order of a start, so that errors have the
 * same message and exit code, and nothing is left behind. Loaded only for that.
 */
import type { Locking, Native } from '../native/native.ts';
import type { Field } from '../proxy/headers.ts';
import { type ListenOn, bind, createHttpServer } from '../proxy/listener.ts';
import { rehearse } from '../proxy/rehearsal.ts';
import type { UpstreamOptions } from '../proxy/upstream.ts';
import { checkUntraced } from '../run/hardening.ts';
import { installationExposure } from '../run/installation.ts';
import { fitConnections } from '../run/open-files.ts';
import { checkSandbox } from '../run/sandbox.ts';
import { ServerInfoFile } from '../run/server-info.ts';
import { type OversightOptions, checkOversight } from './oversight.ts';
import { peerLookup } from './peer.ts';
import { tryUpstream } from './upstream-trial.ts';
import type { Users } from './users.ts';

/** What the command line asks for, as far as a check tells it. */
export interface CheckOptions extends OversightOptions {
  readonly check: 'start' | 'upstream' | 'nothing';
  readonly listenOn: ListenOn;
  readonly httpHealth: boolean;
  readonly httpShutdown: boolean;
  readonly shutdownTimeoutMs: number;
  readonly upstream: UpstreamOptions;
  readonly upstreamHeaders: readonly Field[];
  readonly authHeader: string;
  readonly authScheme: string | undefined;
  readonly serverInfo: string | undefined;
  readonly token: { readonly kind: 'none' | 'issued' | 'given' };
  readonly isKeyRenewable: boolean;
  readonly unsafeNoSandbox: boolean;
}

/** What the daemon would do, for one line: a label, and the rest. */
type Intention = readonly [label: string, text: string];

/**
 * Checks all that a start needs except for the key.
 *
 * @param weakness what to tell of a token that was given
 * @param lock locks memory for a key, as the start does
 * @returns what the daemon would do, a line each
 * @throws {Failure} the one that a start would end with
 */
export async function check(
  options: CheckOptions,
  users: Users,
  native: Native,
  weakness: string | undefined,
  lock: () => { readonly kind: Locking },
): Promise<string> {
  const { listenOn, serverInfo, upstream } = options;
  const { runAs, tokenOwner, allowedUids } = users;
  const exposure = installationExposure();
  const warnings: string[] = [];
  const watched = checkOversight(options, { owner: runAs, native, report: (message) => warnings.push(message) });
  if (allowedUids.length > 0) peerLookup(native, true);
  if (runAs !== undefined) await rehearse(true);
  const { kind } = lock();
  const unsandboxed = checkSandbox(native, options.unsafeNoSandbox, process.env['RESPONSES_API_PROXY_LANDLOCK']);
  checkUntraced();
  const { maxConnections, lowered } = fitConnections();
  if (listenOn.kind === 'port') await checkPort(listenOn.port, native);
  const other = serverInfo === undefined ? undefined : ServerInfoFile.check(serverInfo, native, options.token.kind === 'issued', tokenOwner);
  if (runAs === undefined) await rehearse(true);
  users.giveUpRoot?.();
  const verified = options.check === 'upstream' ? await tryUpstream(upstream) : undefined;

  return table([
    ['listens on', `127.0.0.1, ${portOf(options)}; at most ${maxConnections} connections at once`],
    ...notes(lowered === undefined ? [] : [lowered.message]),
    ['serves', servedTargets(options).join(', ')],
    ['to', allowedUids.length === 0 ? 'every user of this machine' : `uid ${allowedUids.join(', ')} only`],
    ['token', tokenSource(options)],
    ...notes(weakness === undefined ? [] : [weakness]),
    ['forwards to', `${upstream.origin.origin}${withoutQuery(upstream.target)}`],
    ['the key in', `${options.authHeader}${options.authScheme === undefined ? '' : `: ${options.authScheme}`}`],
    ...options.upstreamHeaders.map(({ name }): Intention => ['sets', name]),
    ['trusts', trustedCas(options)],
    // Not its URL: that may hold a password.
    ['proxy', upstream.proxy === undefined ? 'none' : `${upstream.proxy.protocol}//${upstream.proxy.host}`],
    ['timeouts', `${timeout(upstream.connectTimeoutMs)} to connect, ${timeout(upstream.responseTimeoutMs)} until an answer begins, ${timeout(upstream.idleTimeoutMs)} between its bytes`],
    ...(verified === undefined ? [] : [['connected', `to ${upstream.origin.host}; ${verified}; nothing was sent`] as const]),
    ...watched,
    ...notes(warnings),
    ...(serverInfo === undefined ? [] : [['writes', `${serverInfo}${tokenOwner === undefined ? '' : `, for ${tokenOwner.name}`}`] as const]),
    ...notes(other === undefined ? [] : [`${serverInfo} names a daemon that is running (pid ${other.pid}, port ${other.port}); it would be overwritten`]),
    ['keeps the key in', kind],
    ...(options.isKeyRenewable ? [['renews the key', 'with each further line on stdin'] as const] : []),
    ...notes(unsandboxed),
    ['runs as', runAs === undefined ? `uid ${process.geteuid?.()}` : `${runAs.name} (uid ${runAs.uid}), once started as root`],
    ...notes(runAs === undefined && process.geteuid?.() === 0 ? ['running as root; --run-as USER gives root up once started'] : []),
    ...notes(exposure === undefined ? [] : [`${exposure}, who could then read the key`]),
    ['stops', `after ${timeout(options.shutdownTimeoutMs)} for running answers`],
  ]);
}

/** @throws {Failure} when the port cannot be bound, as a start does */
async function checkPort(port: number, native: Native | undefined): Promise<void> {
  const server = createHttpServer();
  await bind(server, { kind: 'port', port }, native);
  server.close();
}

function servedTargets({ endpoint, httpHealth, httpShutdown }: CheckOptions): string[] {
  return [`POST ${endpoint}`, ...(httpHealth ? ['GET /health'] : []), ...(httpShutdown ? ['GET /shutdown'] : [])];
}

function tokenSource({ token }: CheckOptions): string {
  switch (token.kind) {
    case 'none':
      return 'none';
    case 'issued':
      return 'issued at start, in the --server-info file';
    case 'given':
      return 'the one in --client-token-file';
  }
}

function portOf({ listenOn }: CheckOptions): string {
  if (listenOn.kind === 'inherited') return 'on the socket that it inherits';
  return listenOn.port === 0 ? 'a free port' : `port ${listenOn.port}`;
}

function trustedCas({ upstream: { origin, ca } }: CheckOptions): string {
  if (origin.protocol === 'http:') return 'no TLS, on loopback only';
  if (ca === undefined) return "node's own CAs";
  return `${ca.split('-----BEGIN').length - 1} CA certificates of --upstream-ca`;
}

/** A query may hold a secret. */
function withoutQuery(target: string): string {
  return target.replace(/\?.*$/s, '?...');
}

function timeout(ms: number): string {
  return ms === 0 ? 'no limit' : `${ms / 1000} s`;
}

function notes(texts: readonly string[]): Intention[] {
  return texts.map((text) => ['note', text]);
}

/** Control characters in the name of a file would be the terminal's to obey. */
function table(lines: readonly Intention[]): string {
  const width = Math.max(...lines.map(([label]) => label.length));
  return lines.map(([label, text]) => `${label.padEnd(width)}  ${text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?')}\n`).join('');
}
