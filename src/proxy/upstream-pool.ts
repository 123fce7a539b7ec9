import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { buildConnector as connectors } from 'undici';
import { type ConnectionContext, UpstreamConnection } from './upstream-connection.ts';

/** Gets an idle connection, or why there is none. */
export type Waiter = (error: Error | null, connection?: UpstreamConnection) => void;

/** Result of a connection made in advance: its error, and whether a waiting request already received it. */
export type OnConnected = (error: Error | null, wasReported: boolean) => void;

/**
 * Connections to the upstream, each for one request at a time.
 *
 * undici's own Pool hands out connections whose FIN is in the kernel already, and reconnects one of its clients while
 * another is idle and connected.
 */
export class UpstreamPool {
  readonly #context: ConnectionContext;
  readonly #connector: connectors.connector;
  readonly #target: connectors.Options;
  /** Connections without a request, the one used last at the end. */
  readonly #idle: UpstreamConnection[] = [];
  readonly #waiters: Waiter[] = [];
  #connecting = 0;
  #noneIsLeft: (wasUsed: boolean) => void = () => {};

  constructor(connector: connectors.connector, context: ConnectionContext) {
    this.#context = context;
    this.#connector = connector;
    const { hostname, host, protocol, port } = context.origin;
    this.#target = { hostname: hostname.replace(/^\[(.*)\]$/, '$1'), host, protocol, port };
  }

  /** @param listener called when a connection has closed, used or not, and no other is idle or being made */
  whenNoneIsLeft(listener: (wasUsed: boolean) => void): void {
    this.#noneIsLeft = listener;
  }

  /** Hands out a connection, which `take` has to use: at once if one is idle, else the next that is free or made. */
  acquire(take: Waiter): void {
    const connection = this.#idle.pop();
    if (connection !== undefined) return take(null, connection);
    this.#waiters.push(take);
    if (this.#waiters.length > this.#connecting) this.#connect();
  }

  /** Withdraws an `acquire` that was not answered yet. */
  withdraw(take: Waiter): void {
    const position = this.#waiters.indexOf(take);
    if (position !== -1) this.#waiters.splice(position, 1);
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
    for (const connection of this.#idle.splice(0)) connection.end('the machine was suspended');
  }

  #connect(done?: OnConnected): void {
    this.#connecting++;
    this.#connector(this.#target, (error, socket) => {
      const connection = error === null ? this.#made(socket as Socket) : undefined;
      const handOver = (): void => {
        this.#connecting--;
        if (connection !== undefined) this.#handOver(connection);
        // Other connections that are being made may serve the other requests.
        const take = error !== null && this.#waiters.length > this.#connecting ? this.#waiters.shift() : undefined;
        take?.(error);
        done?.(error, take !== undefined);
      };
      // Node 26 keeps a copy, in ordinary memory, of what is written during 'secureConnect'.
      if (socket instanceof TLSSocket) setImmediate(handOver);
      else handOver();
    });
  }

  #made(socket: Socket): UpstreamConnection {
    const connection = new UpstreamConnection(socket, this.#context, (idle) => this.#give(idle));
    socket.once('close', () => {
      const position = this.#idle.indexOf(connection);
      if (position !== -1) this.#idle.splice(position, 1);
      if (this.#idle.length === 0 && this.#connecting === 0) this.#noneIsLeft(connection.wasUsed);
    });
    return connection;
  }

  #handOver(connection: UpstreamConnection): void {
    if (this.#waiters.length > 0) return this.#give(connection);
    connection.park();
    // Its request was cancelled, or served by another connection meanwhile. One spare is enough.
    if (this.#idle.length > 0) connection.end('no request needs it');
    else this.#give(connection);
  }

  #give(connection: UpstreamConnection): void {
    const take = this.#waiters.shift();
    if (take === undefined) this.#idle.push(connection);
    else take(null, connection);
  }
}
