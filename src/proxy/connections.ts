import type { Socket } from 'node:net';
import type { Exchange } from './forward.ts';

/** Most requests that may wait on one connection for the exchange before them. */
const maxPipelinedRequests = 16;

/** How long we go on reading from a connection that was told to end, so that what we said last is not lost to a reset. */
export const lingerMs = 2_000;

/** A client's connection and what goes on on it. */
export class Connection {
  readonly socket: Socket;
  /** The user at the other end, where it was asked for and is known. */
  readonly peerUid: number | undefined;
  /** The exchange that is running and those that wait for it: one at a time, answered in the order they came. */
  readonly #exchanges: Exchange[] = [];
  #condemned = false;

  constructor(socket: Socket, peerUid: number | undefined) {
    this.socket = socket;
    this.peerUid = peerUid;
  }

  get isBusy(): boolean {
    return this.#exchanges.length > 0;
  }

  /** Nothing that still comes on this connection is a request. */
  get isCondemned(): boolean {
    return this.#condemned;
  }

  /** Starts an exchange once those before it have ended. Returns false when too many wait already. */
  enqueue(exchange: Exchange): boolean {
    if (this.#exchanges.length > maxPipelinedRequests) return false;
    this.#exchanges.push(exchange);
    if (this.#exchanges.length === 1) exchange.start();
    return true;
  }

  /** To be called when the running exchange's answer is out, or its client is gone. */
  exchangeEnded(exchange: Exchange): void {
    const position = this.#exchanges.indexOf(exchange);
    if (position === -1) return;
    this.#exchanges.splice(position, 1);
    if (position === 0) this.#exchanges[0]?.start();
  }

  /** Stops listening to what comes; what is running is cancelled. Returns whether an answer of ours could still be understood. */
  condemn(): boolean {
    this.#condemned = true;
    const [running] = this.#exchanges;
    for (const exchange of this.#exchanges) exchange.cancel();
    return running?.unanswered ?? true;
  }

  /** Tells the client, in answers whose head is not out yet, that the connection ends with them. */
  announceClose(): void {
    for (const exchange of this.#exchanges) exchange.announceClose();
  }

  /** Closes after `lastWords`, if any, have had time to arrive. */
  close(lastWords = ''): void {
    const { socket } = this;
    this.#condemned = true;
    if (socket.destroyed) return;
    socket.end(lastWords, 'latin1');
    const timer = setTimeout(() => socket.destroy(), lingerMs);
    socket.once('close', () => clearTimeout(timer));
  }
}

/** All connections, oldest first, and never more than a limit. */
export class Connections {
  readonly #limit: number;
  readonly #all = new Map<Socket, Connection>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes a connection in. At the limit the oldest one without an exchange makes room; if there is none, the new one goes. */
  add(connection: Connection): void {
    const { socket } = connection;
    this.#all.set(socket, connection);
    socket.once('close', () => this.#all.delete(socket));
    if (this.#all.size <= this.#limit) return;
    for (const { isBusy, socket: oldest } of this.#all.values()) {
      if (isBusy) continue;
      this.#all.delete(oldest);
      oldest.destroy();
      return;
    }
  }

  of(socket: Socket): Connection | undefined {
    return this.#all.get(socket);
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.#all.values();
  }
}
