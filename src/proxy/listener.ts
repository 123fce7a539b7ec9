import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { type RequestListener, type Server, createServer } from 'node:http';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import { constants } from 'node:os';
import { headTooLarge, maxHeadBytes } from '../gate/gate.ts';
import type { Native } from '../native/native.ts';
import { Failure, reason } from '../run/failure.ts';
import { badSocket, inheritedDescriptor } from '../run/inherited-socket.ts';
import { daemonOn } from '../run/server-info.ts';
import { Connection, Connections } from './connections.ts';
import type { Service } from './exchange.ts';
import type { Observer } from './observer.ts';
import type { Problem } from './problem.ts';
import { RequestHandler } from './request-handler.ts';

/** The only address there is: nothing beyond this machine can reach us. */
const address = '127.0.0.1';

/** How many free ports are tried, where each is taken on ::1. */
const maxPortsTried = 100;

const { EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT } = constants.errno;

/** Connections that may wait to be accepted, as far as the system allows. */
const backlog = 4096;

/** A head must be complete this soon after its connection, or its first byte. */
const headTimeoutMs = 10_000;

/** How often that is checked. Node's own 30 s would give a slow peer three times as long as allowed. */
const headCheckIntervalMs = 1_000;

/** How long a client may keep a connection idle between requests. Longer than clients do, so that they close first. */
const clientIdleMs = 120_000;

const tcpKeepAliveMs = 30_000;

/** What node reads at once, in bytes, and its default since Node 22. With less, each body of Codex's pauses its connection. */
const highWaterMark = 64 * 1024;

/** A port of our own, 0 for one of the system's choice; or the socket that a service manager passed. */
export type ListenOn = number | 'inherited';

/**
 * Listens on 127.0.0.1 and hands each request to a `RequestHandler`. What is peculiar to node:http stays in this file.
 *
 * @throws {Failure} when the port cannot be bound
 */
export async function listen(listenOn: ListenOn, native: Native, service: Service) {
  const server = createHttpServer();
  const { port, held } = await bind(server, listenOn, native);
  const serving = serve(server, port, service);
  return {
    port,
    /** How many requests were accepted whose answers are not out yet. */
    running: () => [...serving.connections].filter(({ isBusy }) => isBusy).length,
    /** Closes everything at once; running answers end broken. */
    cut: () => cutAll(serving.connections),
    /** Stops listening, lets running answers finish for so long, then closes everything. */
    stop: (graceMs: number): Promise<void> => {
      // The next daemon may have the port. Not with an inherited one: that one starts after our end.
      if (held !== undefined && listenOn !== 'inherited') closeSync(held);
      return stop(server, serving, service.observer, listenOn === 'inherited', graceMs);
    },
  };
}

/** node:http, set as strict and as patient as the daemon is. */
export function createHttpServer(): Server {
  const server = createServer({
    maxHeaderSize: maxHeadBytes,
    headersTimeout: headTimeoutMs,
    connectionsCheckingInterval: headCheckIntervalMs,
    requestTimeout: 0, // an upload may take its time
    keepAliveTimeout: clientIdleMs,
    requireHostHeader: false, // the gate says more about it
    insecureHTTPParser: false,
    highWaterMark,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: tcpKeepAliveMs,
  });
  // Node silently drops header lines beyond its own limit; the gate counts instead.
  server.maxHeadersCount = 0;
  return server;
}

/** Serves what comes in on a server. */
export function serve(server: Server, port: number, service: Service) {
  const { maxConnections, peerUidOf, sockets } = service;
  const connections = new Connections(maxConnections);
  const handler = new RequestHandler(service, port);
  server.on('connection', (socket) => connections.add(new Connection(socket, peerUidOf?.(socket), sockets)));
  passRequests(server, connections, handler);
  return { connections, handler };
}

/**
 * Listens, and holds the same port of ::1, see `../native/descriptors.c`.
 *
 * @returns the port, and the descriptor that holds it on ::1; undefined where there is nothing to hold
 * @throws {Failure} when the port cannot be bound
 */
export async function bind(server: Server, listenOn: ListenOn, native: Native): Promise<{ port: number; held: number | undefined }> {
  for (let tried = 1; ; tried++) {
    await startListening(server, listenOn);
    const { port } = server.address() as AddressInfo;
    try {
      return { port, held: hold(port, native) };
    } catch (error) {
      if (listenOn !== 0 || tried === maxPortsTried || (error as NodeJS.ErrnoException).errno !== -EADDRINUSE) {
        throw new Failure(`cannot hold [::1]:${port}: ${reason(error)}`, {
          hint: 'another program there would get what clients send to localhost; end it, or choose another port',
        });
      }
    }
    await new Promise((resolve) => server.close(resolve));
  }
}

async function startListening(server: Server, listenOn: ListenOn): Promise<void> {
  const where = listenOn === 'inherited' ? { fd: inheritedDescriptor } : { host: address, port: listenOn };
  try {
    server.listen({ ...where, backlog });
    await once(server, 'listening');
  } catch (error) {
    if (listenOn === 'inherited') throw cannotInherit(reason(error));
    const other = daemonOn(listenOn);
    const mend = other === undefined ? '' : `a responses-api-proxy runs there, pid ${other}: use or end it, or `;
    const isRefused = (error as NodeJS.ErrnoException).code === 'EACCES';
    const hint = isRefused ? 'a port below 1024 needs root; choose a higher --port, or none' : `${mend}choose another --port, or none`;
    throw new Failure(`cannot bind ${address}:${listenOn}: ${reason(error)}`, { hint });
  }
  const bound = server.address() as AddressInfo | null; // null for a UNIX socket
  if (bound === null) throw cannotInherit('it is a UNIX socket');
  if (bound.address !== address) throw cannotInherit(`it is bound to ${bound.address}:${bound.port}, not to ${address}`);
}

/** Told as an invalid argument where it is no socket that can listen. */
function cannotInherit(why: string): Failure {
  return badSocket(`cannot serve on the inherited descriptor ${inheritedDescriptor} (LISTEN_FDS): ${why}`);
}

function hold(port: number, native: Native): number | undefined {
  try {
    return native.holdPort(port);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === -EAFNOSUPPORT || errno === -EADDRNOTAVAIL) return undefined; // no IPv6
    if (errno === -EACCES) return undefined; // a port below 1024 that a service manager gave to a plain user
    throw error;
  }
}

/** Node's events about requests, of which some leave the connection to us. */
function passRequests(server: Server, connections: Connections, handler: RequestHandler): void {
  const pass = (expectsContinue: boolean): RequestListener => (req, res) => {
    const connection = connections.get(req.socket);
    connection?.accept(req, res, (bytesOfHead) => handler.handle(req, res, connection, bytesOfHead, expectsContinue));
  };
  server.on('request', pass(false));
  server.on('checkContinue', pass(true)); // without a listener, node would send the 100 itself
  server.on('checkExpectation', pass(false)); // without one, node would answer 417 before the gate has judged
  server.on('connect', (req, socket) => {
    // Node has removed its own listeners: without this one a reset would end the daemon.
    socket.on('error', () => {});
    const connection = connections.get(socket as Socket);
    // Nor would it notice that the client reads or leaves: an answer that is running would stall.
    if (connection === undefined || connection.isAnswering) socket.destroy();
    else if (connection.isEnding) connection.end();
    else handler.handleConnect(req, connection);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const connection = connections.get(socket as Socket);
    if (connection === undefined || socket.destroyed || error.code === 'ECONNRESET') return void socket.destroy();
    if (socket.writableEnded) return; // it closes once the client has, too
    handler.handleUnparsable(connection, problemOf(error), error.code === 'HPE_INVALID_EOF_STATE', error.code ?? '');
  });
}

/** What node:http could not parse. */
function problemOf({ code }: NodeJS.ErrnoException): Problem {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return headTooLarge;
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, code: 'request_timeout', message: `A request head must be complete within ${headTimeoutMs / 1000} seconds.` };
    default:
      return { status: 400, code: 'bad_request', message: 'This is not an HTTP/1.1 request.' };
  }
}

/**
 * Lets running answers finish, and cuts them after `graceMs`.
 *
 * @param isHandingOver the service manager keeps the socket open: new connections wait for the next daemon, and ours must not fail
 */
function stop(server: Server, { connections, handler }: ReturnType<typeof serve>, observer: Observer, isHandingOver: boolean, graceMs: number): Promise<void> {
  /** While answers are running, other connections stay open, so that their requests are told why they are refused. */
  const closeWhenDone = (): void => {
    if (isHandingOver || [...connections].some(({ isBusy }) => isBusy)) return;
    for (const connection of connections) connection.close();
  };
  const endSoon = (connection: Connection | undefined): void => {
    if (connection === undefined) return;
    connection.socket.once('close', closeWhenDone);
    if (isHandingOver) connection.endUnlessUsed();
    else if (connection.isBusy) connection.endBehindAnswer();
  };
  handler.stop(isHandingOver);
  // Not http's own `close`, which also closes idle connections.
  const stopped = new Promise<void>((resolve) => NetServer.prototype.close.call(server, () => resolve()));
  for (const connection of connections) endSoon(connection);
  server.on('connection', (socket) => endSoon(connections.get(socket))); // those that the kernel had accepted
  closeWhenDone();
  const deadline = setTimeout(() => {
    observer.stop();
    cutAll(connections);
  }, graceMs);
  return stopped.finally(() => clearTimeout(deadline));
}

function cutAll(connections: Connections): void {
  for (const connection of connections) connection.cut();
}
