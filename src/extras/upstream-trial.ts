import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { Failure } from '../run/failure.ts';
import { type ConnectionOptions, upstreamConnector } from '../proxy/upstream-connector.ts';
import { explain } from '../proxy/upstream-error.ts';

/** How long a server has to object after a TLS 1.3 handshake, which ends before it has looked at the client's side. */
const objectionMs = 1_000;

/**
 * Connects to the upstream as a request would, verifies it, sends nothing, and closes.
 *
 * @returns how it was verified, in words
 * @throws {Failure} when it cannot be reached or verified
 */
export async function tryUpstream(options: ConnectionOptions): Promise<string> {
  const { origin } = options;
  try {
    const socket = await connect(options);
    const verified = socket instanceof TLSSocket ? `its certificate is trusted (${socket.getProtocol()})` : 'it is on loopback (no TLS)';
    await objection(socket);
    socket.destroy();
    return verified;
  } catch (error) {
    const { problem, detail } = explain(error as Error, origin.host);
    const hint = problem.code === 'upstream_tls' ? 'name its CA by --upstream-ca; a gateway may demand a client certificate' : 'check --upstream-url and --upstream-proxy (or HTTPS_PROXY)';
    throw new Failure(`${problem.code}: ${detail.replace(/[^\x20-\x7e]/g, '?')}`, { hint });
  }
}

function connect(options: ConnectionOptions): Promise<Socket> {
  const { protocol, host, port, hostname } = options.origin;
  const target = { protocol, host, port, hostname: hostname.replace(/^\[(.*)\]$/, '$1') };
  return new Promise((resolve, reject) => {
    upstreamConnector(options)(target, (error, socket) => (error === null ? resolve(socket as Socket) : reject(error)));
  });
}

/** Waits for what a server does first once it is content: it sends session tickets. Rejects where it sends an alert. */
function objection(socket: Socket): Promise<void> {
  if (!(socket instanceof TLSSocket) || socket.getProtocol() !== 'TLSv1.3') return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, objectionMs);
    socket.once('session', () => resolve());
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve(); // a server may also close what asks for nothing
    });
    socket.resume();
  });
}
