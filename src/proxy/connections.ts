import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Exchange } from './exchange.ts';

/** With this many requests waiting on one connection, nothing more is read from it. */
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
  /** What to say before closing, once the exchanges that came before it have ended. */
  #lastWords = '';
  #openRequests = 0;
  #lastRequest: IncomingMessage | undefined;
  /** How many bytes had been read from the socket when the last request ended. */
  #headBegin = 0;

  constructor(socket: Socket, peerUid: number | undefined) {
    this.socket = socket;
    this.peerUid = peerUid;
    // Those that wait have no answer yet that could learn of it.
    socket.once('close', () => this.#exchanges.splice(0).forEach((exchange) => exchange.cancel()));
  }

  get isBusy(): boolean {
    return this.#exchanges.length > 0;
  }

  /** A request is still coming, be it of an exchange or one that was refused. */
  get isMidRequest(): boolean {
    return this.#lastRequest?.complete === false;
  }

  /** An exchange is running that has had its whole request. */
  get isAnswering(): boolean {
    return this.#exchanges[0]?.hasWholeRequest === true;
  }

  /** The exchange whose request is still coming, be it running or waiting: what breaks now is that request. */
  get asking(): Exchange | undefined {
    const last = this.#exchanges.at(-1);
    return last?.hasWholeRequest === false ? last : undefined;
  }

  /** Nothing that still comes on this connection is a request. */
  get isCondemned(): boolean {
    return this.#condemned;
  }

  /**
   * How much was read since the last request ended: the head of the next, and what came with it. White space counts,
   * which node's own limit on a head passes over. Undefined while that cannot be told, because requests overlap.
   */
  get bytesOfHead(): number | undefined {
    return this.#openRequests === 0 ? this.socket.bytesRead - this.#headBegin : undefined;
  }

  /** Follows a request until it has been read to its end. */
  follow(req: IncomingMessage): void {
    this.#openRequests++;
    this.#lastRequest = req;
    req.once('close', () => {
      this.#openRequests--;
      if (this.#lastRequest === req) this.#lastRequest = undefined;
      this.#headBegin = this.socket.bytesRead;
    });
  }

  /** Starts an exchange once those before it have ended. With many waiting, no more is read. */
  enqueue(exchange: Exchange): void {
    this.#exchanges.push(exchange);
    if (this.#exchanges.length === 1) exchange.start();
    if (this.#exchanges.length > maxPipelinedRequests) this.socket.pause();
  }

  /** To be called when the running exchange's answer is out, or its client is gone. */
  exchangeEnded(exchange: Exchange): void {
    const position = this.#exchanges.indexOf(exchange);
    if (position === -1) return;
    this.#exchanges.splice(position, 1);
    if (this.#exchanges.length === maxPipelinedRequests) this.socket.resume();
    if (position === 0) this.#exchanges[0]?.start();
    if (this.#condemned && !this.isBusy) this.#end(this.#lastWords);
  }

  /** Tells the client, in the last answer that is due if its head is not out yet, that the connection ends with it. */
  announceClose(): void {
    this.#exchanges.at(-1)?.announceClose();
  }

  /** Takes nothing that still comes for a request, and closes after what is running. */
  condemn(): void {
    this.#condemned = true;
  }

  /**
   * Closes with an answer to what came last, of which no more than a part may have come; exchanges before it may end first.
   *
   * @param lastWords '' where that has an answer already
   */
  closeWith(lastWords: string): void {
    this.#condemned = true;
    const { asking } = this;
    if (asking !== undefined) {
      this.#exchanges.pop();
      asking.cancel();
    }
    if (this.isBusy) this.#lastWords = lastWords;
    else if (asking?.unanswered !== false) this.#end(lastWords);
    else this.socket.destroy();
  }

  /** Closes at once, with nothing to say. */
  close(): void {
    this.#condemned = true;
    this.socket.destroySoon();
  }

  /** Breaks off what is running, in a way that nobody takes for its end. */
  cut(): void {
    this.#exchanges[0]?.cut();
    this.socket.destroy();
  }

  /** Reads on for a while after the last words, because a reset would take them from the client. */
  #end(lastWords: string): void {
    const { socket } = this;
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
