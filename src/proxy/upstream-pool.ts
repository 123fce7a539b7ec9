import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Client as UndiciClient, buildConnector as connectors } from 'undici';
import { requestBegins } from '../key/injection.ts';
import { Client } from './undici.ts';
import type { KernelSockets } from './kernel-sockets.ts';

/** undici closes a connection that is idle for this long, 24 hours: in effect the upstream decides. */
const upstreamIdleMs = 86_400_000;

/** Largest response head. OpenAI's are about 1 KiB. */
const maxResponseHeadBytes = 64 * 1024;

/** Where a pool's connections lead, and how patient undici is on them. */
export interface PoolOptions {
  /** `https://host:port` or `http://host:port`. */
  readonly origin: URL;
  readonly connect: connectors.connector;
  /** 0 for none, as for the one below. */
  readonly responseTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly sockets: KernelSockets;
}

/** One connection to the upstream, with the undici client that speaks HTTP on it and on no other. */
export interface PooledConnection {
  readonly client: UndiciClient;
  readonly socket: Socket;
  /** Whether anything of the request that has it may have been sent. */
  isSending: boolean;
  /** Whether it has served a request. */
  wasUsed: boolean;
  /** To be called when the upstream has ended its side, before undici is: it takes what it has not parsed yet for missing. */
  onEnd: () => void;
}

/** Gets a connection, or why there is none. */
export type Waiter = (error: Error | null, connection?: PooledConnection) => void;

/** Result of a connection made in advance: its error, and whether a waiting request already received it. */
export type OnConnected = (error: Error | null, wasReported: boolean) => void;

/**
 * Connections to the upstream, each for one request at a time.
 *
 * undici's own Pool hands out connections whose FIN is in the kernel already, and reconnects one of its clients while
 * another is idle and connected. This one looks at a socket when it hands it out, and again right before a request is
 * written to it, for undici lets a turn of the event loop pass between the two (GHSA-35p6-xmwp-9g52).
 */
export class UpstreamPool {
  readonly #options: PoolOptions;
  readonly #target: connectors.Options;
  /** Connections without a request, the one used last at the end. */
  readonly #idle: PooledConnection[] = [];
  readonly #waiters: Waiter[] = [];
  #connecting = 0;
  #onNoneIdle: (wasUsed: boolean) => void = () => {};

  constructor(options: PoolOptions) {
    this.#options = options;
    const { hostname, host, protocol, port } = options.origin;
    this.#target = { hostname: hostname.replace(/^\[(.*)\]$/, '$1'), host, protocol, port };
  }

  /** @param listener called when a connection has closed, used or not, and no other is idle or being made */
  set onNoneIdle(listener: (wasUsed: boolean) => void) {
    this.#onNoneIdle = listener;
  }

  /**
   * Hands out a connection that was alive a moment ago: at once if one is idle, else the next that is free or made.
   *
   * @param take has to give the connection back with `release`
   */
  acquire(take: Waiter): void {
    const connection = this.#takeIdle();
    if (connection !== undefined) return take(null, connection);
    this.#waiters.push(take);
    if (this.#waiters.length > this.#connecting) this.#connect();
  }

  /** Withdraws an `acquire` that was not answered yet. */
  withdraw(take: Waiter): void {
    const position = this.#waiters.indexOf(take);
    if (position !== -1) this.#waiters.splice(position, 1);
  }

  /** Takes a connection back. undici is told of a response's end before it is done with it, hence the next turn. */
  release(connection: PooledConnection): void {
    connection.isSending = false;
    connection.wasUsed = true;
    connection.onEnd = () => {}; // or the connection would keep its last request, with all of the body, while it lies idle
    setImmediate(() => {
      if (connection.socket.destroyed) return;
      if (this.#waiters.length === 0) this.#idle.push(connection);
      else if (this.#isAlive(connection)) this.#give(connection);
      else connection.socket.destroy();
    });
  }

  /** Whether a connection has ended with a reset. False where we cannot tell. */
  wasReset({ socket }: PooledConnection): boolean {
    return this.#options.sockets.wasReset(socket);
  }

  /**
   * Makes a connection that no request asked for, unless there is an idle one or one is being made.
   *
   * @param done gets the failure, if it fails and no request was told of it
   */
  connectAhead(done: OnConnected): void {
    if (this.#idle.length === 0 && this.#connecting === 0) this.#connect(done);
  }

  /** Closes the idle connections: after a suspend or a change of network they may be dead without a sign. */
  dropIdle(): void {
    for (const { socket } of this.#idle.splice(0)) socket.destroy();
  }

  #connect(done?: OnConnected): void {
    this.#connecting++;
    this.#options.connect(this.#target, (error, socket) => {
      this.#connecting--;
      if (error === null) this.#add(socket as Socket);
      // Other connections that are being made may serve the other requests.
      const take = error !== null && this.#waiters.length > this.#connecting ? this.#waiters.shift() : undefined;
      take?.(error);
      done?.(error, take !== undefined);
    });
  }

  #give(connection: PooledConnection): boolean {
    const take = this.#waiters.shift();
    take?.(null, connection);
    return take !== undefined;
  }

  #add(socket: Socket): void {
    const { origin, responseTimeoutMs, idleTimeoutMs } = this.#options;
    let isUsed = false;
    const client = new Client(origin.origin, {
      // Each client has one socket in its life: a request is never moved to another one.
      connect: (_options, callback) => {
        if (isUsed) return callback(new Error('the connection has ended'), null);
        isUsed = true;
        socket.off('readable', onReadable);
        process.nextTick(callback, null, socket); // undici does not go on where it is answered within the call
      },
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: upstreamIdleMs,
      keepAliveMaxTimeout: upstreamIdleMs,
      maxHeaderSize: maxResponseHeadBytes,
      headersTimeout: responseTimeoutMs,
      bodyTimeout: idleTimeoutMs,
    });
    const connection: PooledConnection = { client, socket, isSending: false, wasUsed: false, onEnd: () => {} };
    // Node's types know only the events of its own that a socket has.
    (socket as EventEmitter).on(requestBegins, () => {
      // A new connection that has ended already tells why: with TLS 1.3 a refusal of the handshake comes after it.
      if (!connection.wasUsed || this.#isAlive(connection)) connection.isSending = true;
      else socket.destroy(); // a write to it fails then, and reaches nothing
    });
    // Until undici reads from it: bytes or an end before the first request make a connection useless.
    const onReadable = (): void => void socket.destroy();
    socket.on('readable', onReadable);
    socket.on('error', () => {}); // 'close' follows
    socket.once('end', () => connection.onEnd());
    socket.once('close', () => this.#remove(connection, isUsed));
    if (this.#give(connection)) return;
    // Its request was cancelled, or served by another connection meanwhile. One spare is enough.
    if (this.#idle.length > 0) socket.destroy();
    else this.#idle.push(connection);
  }

  #remove(connection: PooledConnection, wasUsed: boolean): void {
    const position = this.#idle.indexOf(connection);
    if (position !== -1) this.#idle.splice(position, 1);
    connection.client.destroy().catch(() => {}); // it has no request left to tell
    if (this.#idle.length === 0 && this.#connecting === 0) this.#onNoneIdle(wasUsed);
  }

  /** The idle connection that was used last, if it is alive. Nothing was sent on those that are not, so nothing is lost. */
  #takeIdle(): PooledConnection | undefined {
    for (let connection = this.#idle.pop(); connection !== undefined; connection = this.#idle.pop()) {
      if (this.#isAlive(connection)) return connection;
      connection.socket.destroy();
    }
    return undefined;
  }

  #isAlive({ socket }: PooledConnection): boolean {
    return !socket.destroyed && !this.#options.sockets.hasHungUp(socket);
  }
}
