/** What `--check` does in place of reading the key. All before it is the start's own. */
import { TLSSocket } from 'node:tls';
import type { ListenOn } from '../proxy/listener.ts';
import { type ConnectionOptions, upstreamConnector } from '../proxy/upstream-connector.ts';
import { explain } from '../proxy/upstream-error.ts';
import { Failure } from '../run/failure.ts';
import { escaped } from '../run/log.ts';
import { parseTimestamp } from './timestamp.ts';

/** What the command line asks for, as far as a check tells it. */
export interface CheckOptions {
  readonly listenOn: ListenOn;
  readonly endpoint: string;
  readonly httpHealth: boolean;
  readonly httpShutdown: boolean;
  readonly upstream: ConnectionOptions & { readonly target: string };
  readonly authHeader: string;
  readonly authScheme: string | undefined;
  readonly auditLog: string | undefined;
  readonly expireAt: string | undefined;
  readonly issuesToken: boolean;
  readonly tokenFile: string | undefined;
}

/** What the start has found out by now, in words. */
export interface Findings {
  readonly allowedUids: readonly number[];
  readonly tokenOwner: { readonly name: string } | undefined;
  readonly notices: readonly string[];
  readonly custody: string;
}

/** How long a server has to object after a TLS 1.3 handshake, which ends before it has looked at the client's side. */
const objectionMs = 1_000;

/**
 * Makes the first connection, and sends nothing on it.
 *
 * @returns what the daemon would do, a line each
 * @throws {Failure} when the upstream cannot be reached or verified
 */
export async function check(options: CheckOptions, { allowedUids, tokenOwner, notices, custody }: Findings): Promise<string> {
  const { endpoint, httpHealth, httpShutdown, upstream, authHeader, authScheme, auditLog, expireAt, issuesToken, tokenFile } = options;
  const { origin, target, proxy } = upstream;
  const verified = await connect(upstream);
  const token = issuesToken ? 'issued at start, in the --server-info file' : tokenFile === undefined ? 'none' : 'the one in --client-token-file';
  const lines = [
    ['serves', [`POST ${endpoint}`, ...(httpHealth ? ['GET /health'] : []), ...(httpShutdown ? ['GET /shutdown'] : [])].join(', ')],
    ['listens on', `127.0.0.1, ${portOf(options)}`],
    ['to', allowedUids.length === 0 ? 'every user of this machine' : `uid ${allowedUids.join(', ')} only`],
    ['token', `${token}${tokenOwner === undefined ? '' : `, for ${tokenOwner.name}`}`],
    ['forwards to', `${origin.origin}${target.replace(/\?.*$/s, '?...')}`], // a query may hold a secret
    ['connected', `to ${origin.host}; ${verified}; nothing was sent`],
    ['proxy', proxy === undefined ? 'none' : `${proxy.protocol}//${proxy.host}`], // not its URL, which may hold a password
    ['the key in', `${authHeader}${authScheme === undefined ? '' : `: ${authScheme}`}`],
    ...(auditLog === undefined ? [] : [['records in', auditLog]]),
    ...(expireAt === undefined ? [] : [['lends until', new Date(parseTimestamp(expireAt)).toISOString()]]),
    ...notices.map((notice) => ['note', notice]),
    ['keeps the key in', custody],
    ['runs as', `uid ${process.geteuid?.()}`],
  ];
  const width = Math.max(...lines.map(([label = '']) => label.length));
  return lines.map(([label = '', text = '']) => `${label.padEnd(width)}  ${escaped(text)}\n`).join('');
}

function portOf({ listenOn }: CheckOptions): string {
  if (listenOn === 'inherited') return 'on the socket that it inherits';
  return listenOn === 0 ? 'a free port' : `port ${listenOn}`;
}

/** @returns how the upstream was verified, in words */
async function connect(options: ConnectionOptions): Promise<string> {
  try {
    const socket = await upstreamConnector(options)();
    if (!(socket instanceof TLSSocket)) return 'it is on loopback (no TLS)';
    const protocol = socket.getProtocol();
    await new Promise<unknown>((resolve, reject) => {
      // A server that is content sends session tickets first, or closes what asks for nothing; else it sends an alert.
      socket.once('session', resolve).once('error', reject).once('close', resolve).resume();
      setTimeout(resolve, objectionMs, undefined);
    });
    return `its certificate is trusted (${protocol})`;
  } catch (error) {
    const { problem, detail } = explain(error as Error, options.origin.host);
    const hint = problem.code === 'upstream_tls' ? 'name its CA by --upstream-ca; a gateway may demand a client certificate' : 'check --upstream-url and --upstream-proxy (or HTTPS_PROXY)';
    throw new Failure(`${problem.code}: ${detail}`, { hint });
  }
}
