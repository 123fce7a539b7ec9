import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { suspendCheck } from './suspend-check.ts';
import { type ConnectionContext, UpstreamConnection } from './upstream-connection.ts';

/** How long after a request a connection is kept ready for the next. */
const keepReadyMs = 900_000;

/** An unused connection that ends sooner than this counts as a failure: the upstream does not want it. */
const shortestLifeMs = 5_000;

const firstRetryMs = 1_000;
const longestRetryMs = 60_000;

/** Gets an idle connection, which it has to use, or why there is none. */
export type Waiter = (error: Error | null, connection?: UpstreamConnection) => void;

/**
 * Connections to the upstream, each for one request at a time.
 *
 * undici's own Pool hands out connections whose FIN is in the kernel already, and reconnects one of its clients while
 * another is idle and connected.
 */
export class UpstreamPool {
  readonly #dial: () => Promise<Socket>;
  readonly #context: ConnectionContext;
  readonly #report: (error: Error) => void;
  readonly #wasSuspended = suspendCheck();
  /** Connections without a request, the one used last at the end. */
  readonly #idle: UpstreamConnection[] = [];
  readonly #waiters: Waiter[] = [];
  #connecting = 0;
  #keepsReady = false;
  #requestedAtMs = -Infinity;
  #connectedAtMs = -Infinity;
  #retryMs = 0;
  #retry: NodeJS.Timeout | undefined;

  /**
   * @param dial makes a connection, verified and ready for undici
   * @param report told why no connection could be made in advance, once for all failures in a row
   */
  constructor(dial: () => Promise<Socket>, context: ConnectionContext, report: (error: Error) => void) {
    this.#dial = dial;
    this.#context = context;
    this.#report = report;
  }

  /** Hands out a connection: at once if one is idle, else the next that is free or made. */
  acquire(take: Waiter): void {
    // After a suspend or a change of network, connections may be dead without a sign.
    if (this.#wasSuspended()) for (const connection of this.#idle.splice(0)) connection.end('the machine was suspended');
    this.#requestedAtMs = performance.now();
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
   * Makes a connection that no request has asked for, so that one need not wait for DNS, TCP and TLS; nothing is sent on it.
   * From then on, when one has closed, no other is idle, and there was a request not long ago, another is made.
   */
  keepReady(): void {
    this.#keepsReady = true;
    if (this.#idle.length > 0 || this.#connecting > 0) return;
    this.#connect((error, wasTold) => {
      if (error === null) this.#connectedAtMs = performance.now();
      else if (this.#retryMs === 0 && !wasTold) this.#report(error);
      this.#retryMs = Math.min(longestRetryMs, Math.max(firstRetryMs, this.#retryMs * 2));
      if (error !== null) this.#keepReadySoon();
    });
  }

  #keepReadySoon(): void {
    if (!this.#keepsReady || this.#retry !== undefined || performance.now() - this.#requestedAtMs > keepReadyMs) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.keepReady();
    }, this.#retryMs).unref();
  }

  /** @param done gets the failure, and whether a request was told of it */
  #connect(done?: (error: Error | null, wasTold: boolean) => void): void {
    this.#connecting++;
    this.#dial().then((socket) => {
      const connection = this.#connectionOn(socket);
      const handOver = (): void => {
        this.#connecting--;
        this.#handOver(connection);
        done?.(null, false);
      };
      // Node 26 keeps a copy, in ordinary memory, of what is written during 'secureConnect'.
      if (socket instanceof TLSSocket) setImmediate(handOver);
      else handOver();
    }, (error: Error) => {
      this.#connecting--;
      // Other connections that are being made may serve the other requests.
      const take = this.#waiters.length > this.#connecting ? this.#waiters.shift() : undefined;
      take?.(error);
      done?.(error, take !== undefined);
    });
  }

  #connectionOn(socket: Socket): UpstreamConnection {
    const connection = new UpstreamConnection(socket, this.#context, () => this.#give(connection));
    socket.once('close', () => {
      const position = this.#idle.indexOf(connection);
      if (position !== -1) this.#idle.splice(position, 1);
      if (this.#idle.length > 0 || this.#connecting > 0) return;
      if (connection.wasUsed || performance.now() - this.#connectedAtMs > shortestLifeMs) this.#retryMs = 0;
      this.#keepReadySoon();
    });
    return connection;
  }

  #handOver(connection: UpstreamConnection): void {
    if (this.#waiters.length === 0) connection.isNew = false;
    // Its request was cancelled, or served by another connection meanwhile. One spare is enough.
    if (this.#waiters.length === 0 && this.#idle.length > 0) connection.end('no request needs it');
    else this.#give(connection);
  }

  #give(connection: UpstreamConnection): void {
    const take = this.#waiters.shift();
    if (take !== undefined) take(null, connection);
    else if (!connection.socket.destroyed) this.#idle.push(connection); // its 'close' has been told, and would not take it out again
  }
}
