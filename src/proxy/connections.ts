import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Exchange } from './exchange.ts';
import { type KernelSockets, watchPresence } from './kernel-sockets.ts';

/**
 * How long we read on after the last byte we send, in ms. A close with unread input resets the connection, which can
 * destroy the end of an answer before its client has read it (RFC 9112 section 9.6).
 */
const lingerMs = 2_000;

/** How long a client that has not been told of the end may take to send its last request. */
const lastRequestMs = 1_000;

/**
 * Requests that may come in one read behind a running one, to be ignored politely. Node makes objects of each, 1.5 KB that
 * stay until the connection ends. A client that sends more than this is cut off.
 */
const maxIgnoredRequests = 100;

/** A client's connection. It serves one request at a time, and none that begins before the answer to the one before is whole. */
export class Connection {
  readonly socket: Socket;
  /** The user at the other end; undefined where nothing asked for it, or the kernel does not know. */
  readonly peerUid: number | undefined;
  readonly #sockets: KernelSockets;
  /** The last request that was accepted. */
  #request: IncomingMessage | undefined;
  /** Its answer, until the kernel has all of it. */
  #response: ServerResponse | undefined;
  /** Answers the request; undefined where the daemon does so by itself. */
  #exchange: Exchange | undefined;
  /** A request waits until it is certain that the answer before it is out. */
  #hasWaiting = false;
  #ignoredRequests = 0;
  #isEnding = false;
  #isWatched = false;
  #bytesOfHead = 0;
  /** How many bytes had been read from the socket when the last request ended. */
  #headBegin = 0;

  constructor(socket: Socket, peerUid: number | undefined, sockets: KernelSockets) {
    this.socket = socket;
    this.peerUid = peerUid;
    this.#sockets = sockets;
    socket.on('pause', () => this.#watchWhilePaused());
    // Before node, which then ends its own side.
    socket.prependListener('end', () => this.#exchange?.clientEnded());
    // What node does behind an answer with `Connection: close`.
    socket.destroySoon = () => this.end();
  }

  /** A request was accepted, and its answer is not out yet. */
  get isBusy(): boolean {
    return this.#response !== undefined;
  }

  /** A request was accepted, and its answer has not been written to its end. */
  get isAnswering(): boolean {
    return this.#response?.writableEnded === false;
  }

  /** A request that was accepted is still coming; its answer may be out. */
  get isMidRequest(): boolean {
    return this.#request?.complete === false;
  }

  /** Nothing more is served. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** The exchange that is running. */
  get exchange(): Exchange | undefined {
    return this.#exchange;
  }

  /**
   * Bytes read for the head of the accepted request, and with it. This counts the white space that node's own limit on a
   * head leaves out. 0 where it came in one read with the end of the request before.
   */
  get bytesOfHead(): number {
    return this.#bytesOfHead;
  }

  /**
   * A request has come.
   *
   * @param serve called if it is accepted, and when. A client may have read the last byte of an answer before node says
   * that it is out: a request behind an answer that has been written waits for that.
   */
  accept(req: IncomingMessage, res: ServerResponse, serve: () => void): void {
    const before = this.#response;
    if (this.#isEnding || this.#hasWaiting || this.isAnswering) return this.#ignore(req);
    if (before === undefined) {
      this.#begin(req, res);
      return serve();
    }
    this.#hasWaiting = true;
    before.once('close', () => {
      this.#hasWaiting = false;
      if (this.#isEnding || this.socket.destroyed) return;
      this.#begin(req, res);
      serve();
    });
  }

  #begin(req: IncomingMessage, res: ServerResponse): void {
    this.#bytesOfHead = this.#request?.closed === false ? 0 : this.socket.bytesRead - this.#headBegin;
    this.#request = req;
    this.#response = res;
    req.once('close', () => (this.#headBegin = this.socket.bytesRead));
    res.once('close', () => {
      this.#response = this.#exchange = undefined;
      if (this.#isEnding) return this.end();
      // Of an answer that ended before its request: what is left of that is of no use.
      req.resume();
      if (!req.complete) this.#destroyUnlessClosed(req);
    });
  }

  /** Starts an exchange for the request that was accepted. */
  forward(exchange: Exchange): void {
    this.#exchange = exchange;
    exchange.start();
  }

  /** Nothing of a request is acted on: the connection ends behind the answer that is running, or has ended. */
  #ignore(req: IncomingMessage): void {
    if (this.socket.destroyed) return;
    if (this.#ignoredRequests++ === 0) this.#discardInput();
    if (this.#ignoredRequests > maxIgnoredRequests) return void this.socket.destroy();
    req.resume();
    this.endBehindAnswer();
  }

  /** The running answer is the last, and says so if its head is not out yet. */
  endBehindAnswer(): void {
    this.#isEnding = true;
    const response = this.#response;
    if (response === undefined) this.end();
    else if (!response.headersSent) response.shouldKeepAlive = false;
  }

  /**
   * Ends the connection behind what has been written.
   *
   * @param lastWords raw bytes
   */
  end(lastWords = ''): void {
    const { socket } = this;
    this.#isEnding = true;
    if (socket.destroyed) return;
    this.#discardInput();
    if (socket.writableEnded) return;
    if (lastWords !== '') socket.write(lastWords, 'latin1');
    socket.end();
    this.#destroyUnlessClosed(socket);
  }

  /** Closes an idle connection. */
  close(): void {
    if (!this.#isEnding) this.socket.destroy();
  }

  /**
   * Ends with the running answer, if that can still say so. Else it closes soon, unless another request comes: its client
   * may have sent one before it could know of the end.
   */
  endUnlessUsed(): void {
    const response = this.#response;
    if (response?.headersSent === false) this.endBehindAnswer();
    else if (response !== undefined) response.once('close', () => this.endUnlessUsed());
    else setTimeout(() => this.isBusy || this.close(), lastRequestMs);
  }

  /** Breaks off what is running so that it cannot look complete. */
  cut(): void {
    this.#exchange?.cut();
    this.socket.destroy();
  }

  /** Takes node's parser off. What still comes is read and dropped. */
  #discardInput(): void {
    const { socket } = this;
    socket.removeAllListeners('data');
    socket.on('data', () => {}).resume();
  }

  #destroyUnlessClosed(stream: Socket | IncomingMessage): void {
    const timer = setTimeout(() => this.socket.destroy(), lingerMs);
    stream.once('close', () => clearTimeout(timer));
  }

  /** While node does not read, because an upload is slower than its client, only the kernel knows of a client that leaves. */
  #watchWhilePaused(): void {
    if (this.#isWatched) return;
    const isOver = (): boolean => {
      this.#isWatched = this.socket.isPaused();
      return !this.#isWatched;
    };
    this.#isWatched = true;
    watchPresence(this.socket, this.#sockets, isOver, () => {
      if (this.isAnswering) this.socket.destroy(); // a whole one is on its way
    });
  }
}

/** All connections, oldest first, and never more than a limit. */
export class Connections {
  readonly #limit: number;
  readonly #all = new Map<Socket, Connection>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes a connection in. At the limit the oldest one without a running request makes room; if there is none, the new one goes. */
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
