import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Exchange } from './exchange.ts';
import { type KernelSockets, watchPresence } from './kernel-sockets.ts';

/** With this many requests waiting on one connection, nothing more is read from it. */
const maxPipelinedRequests = 16;

/** How long we keep reading from a connection that was told to end: closing with unread input would reset it and lose our last answer. */
export const lingerMs = 2_000;

/** How long a client that has not been told of the end may take to send its last request. */
const lastRequestMs = 1_000;

/** A client's connection and its exchanges. */
export class Connection {
  readonly socket: Socket;
  /** The user at the other end; undefined where nothing asked for it, or the kernel does not know. */
  readonly peerUid: number | undefined;
  /** The exchange that is running and those that wait for it: one at a time, answered in the order they came. */
  readonly #exchanges: Exchange[] = [];
  readonly #sockets: KernelSockets;
  #isWatched = false;
  #hasStoppedParsing = false;
  /** Sent before closing, once the exchanges that came before it have ended. */
  #finalResponse = '';
  #openRequests = 0;
  #lastRequest: IncomingMessage | undefined;
  /** How many bytes had been read from the socket when the last request ended. */
  #headBegin = 0;

  constructor(socket: Socket, peerUid: number | undefined, sockets: KernelSockets) {
    this.socket = socket;
    this.peerUid = peerUid;
    this.#sockets = sockets;
    socket.on('pause', () => this.#watchWhilePaused());
    // Before node, which then ends its own side.
    socket.prependListener('end', () => this.#exchanges[0]?.clientEnded());
    // Exchanges that wait have no answer yet whose 'close' would tell them.
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

  /** The exchange, running or waiting, whose request is still coming: what breaks now is that request. */
  get receiving(): Exchange | undefined {
    const last = this.#exchanges.at(-1);
    return last?.hasWholeRequest === false ? last : undefined;
  }

  /** Further input must not be parsed as a request. */
  get hasStoppedParsing(): boolean {
    return this.#hasStoppedParsing;
  }

  /**
   * Bytes read since the last request ended: the head of the next, and what came with it. This counts the white space
   * that node's own limit on a head leaves out. Undefined while requests overlap.
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
    if (this.#hasStoppedParsing && !this.isBusy) this.#end(this.#finalResponse);
  }

  /** Tells the client, in the last answer that is due if its head is not out yet, that the connection ends with it. */
  announceClose(): void {
    this.#exchanges.at(-1)?.announceClose();
  }

  /** Further input is not a request. Closes after what is running. */
  stopParsing(): void {
    this.#hasStoppedParsing = true;
  }

  /**
   * Closes with an answer to the last request, which may have come in part only. Exchanges before it may end first.
   *
   * @param finalResponse raw bytes; '' where the last request has an answer already
   */
  closeWith(finalResponse: string): void {
    this.#hasStoppedParsing = true;
    const { receiving } = this;
    if (receiving !== undefined) {
      this.#exchanges.pop();
      receiving.cancel();
    }
    if (this.isBusy) this.#finalResponse = finalResponse;
    else if (receiving?.isUnanswered !== false) this.#end(finalResponse);
    else this.socket.destroy();
  }

  /** Closes at once, with nothing to say. */
  close(): void {
    this.#hasStoppedParsing = true;
    this.socket.destroySoon();
  }

  /** Closes soon, unless another request comes: its client may have sent one before it could know of the end. */
  closeUnlessUsed(): void {
    setTimeout(() => this.isBusy || this.close(), lastRequestMs);
  }

  /** Breaks off what is running so that it cannot look complete. */
  cut(): void {
    this.#exchanges[0]?.cut();
    this.socket.destroy();
  }

  /** With much to be answered, we and node stop reading. */
  #watchWhilePaused(): void {
    if (this.#isWatched) return;
    const isOver = (): boolean => {
      this.#isWatched = this.socket.isPaused();
      return !this.#isWatched;
    };
    this.#isWatched = true;
    watchPresence(this.socket, this.#sockets, isOver, () => {
      if (this.#exchanges[0]?.hasWholeAnswer === false) this.socket.destroy(); // a whole one is on its way
    });
  }

  /** Reads on for a while after the final response: a reset could discard it before the client has read it. */
  #end(finalResponse: string): void {
    const { socket } = this;
    if (socket.destroyed) return;
    socket.end(finalResponse, 'latin1');
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
