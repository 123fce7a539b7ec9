import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Exchange } from './exchange.ts';
import type { KernelSockets } from './kernel-sockets.ts';

/**
 * How long we read on after the last byte that we send, in ms. A close with unread input resets the connection, which can
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

/** How often we look whether a client is still there, while nothing is read from it. */
const presenceCheckMs = 50;

/** A client's connection. It serves one request at a time, and none that begins before the answer to the last one is whole. */
export class Connection {
  readonly socket: Socket;
  /** The user at the other end; undefined where nothing asked for it, or the kernel does not know. */
  readonly peerUid: number | undefined;
  readonly #sockets: KernelSockets;
  /** The last request that was accepted. */
  #request: IncomingMessage | undefined;
  /** Its answer, until the kernel has all of it. */
  #response: ServerResponse | undefined;
  /** What fetches that; undefined where the daemon answers by itself. */
  #exchange: Exchange | undefined;
  #hasWaiting = false;
  #ignoredRequests = 0;
  #isEnding = false;
  #isWatched = false;
  /** How many bytes had been read from the socket when the last request ended. */
  #headBegin = 0;

  constructor(socket: Socket, peerUid: number | undefined, sockets: KernelSockets) {
    this.socket = socket;
    this.peerUid = peerUid;
    this.#sockets = sockets;
    socket.on('pause', () => this.#watchWhilePaused());
    // Must run before node's own listener, which ends our side.
    socket.prependListener('end', () => this.#exchange?.clientEnded());
    // Node calls this behind an answer with `Connection: close`, and would close with unread input.
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

  /** Nothing more is served. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** What comes now needs no answer: its request has one already, or begins too early to be served. */
  get ignoresInput(): boolean {
    return this.#request?.complete === false ? this.#exchange === undefined : this.isBusy || this.#isEnding;
  }

  /** The exchange that is running. */
  get exchange(): Exchange | undefined {
    return this.#exchange;
  }

  /**
   * A request has come. It is served if no other one is being answered. A client may read the last byte of an answer before
   * node tells us that it is out: so one request may wait behind an answer that has been written.
   *
   * @param serve gets the bytes that were read for the head, and with it: they count the white space that node's own limit
   * on a head leaves out. 0 where all of it came in one read with the end of the request before.
   */
  accept(req: IncomingMessage, res: ServerResponse, serve: (bytesOfHead: number) => void): void {
    const before = this.#response;
    if (this.#isEnding || this.#hasWaiting || this.isAnswering) return this.#ignore(req);
    if (before === undefined) return serve(this.#begin(req, res));
    this.#hasWaiting = true;
    before.once('close', () => {
      this.#hasWaiting = false;
      if (!this.#isEnding && !this.socket.destroyed) serve(this.#begin(req, res));
    });
  }

  #begin(req: IncomingMessage, res: ServerResponse): number {
    const bytesOfHead = this.#request?.closed === false ? 0 : this.socket.bytesRead - this.#headBegin;
    this.#request = req;
    this.#response = res;
    // They come once anyway; `once` would add a wrapper to make and remove.
    req.on('close', () => (this.#headBegin = this.socket.bytesRead));
    res.on('close', () => {
      this.#exchange?.closed();
      this.#response = this.#exchange = undefined;
      if (this.#isEnding) return this.end();
      // Where the answer came before the end of the request, the rest of that is of no use.
      req.resume();
      if (!req.complete) this.#destroyUnlessClosed(req);
    });
    return bytesOfHead;
  }

  /** Acts on nothing of a request: the connection ends behind the running answer. */
  #ignore(req: IncomingMessage): void {
    if (this.socket.destroyed) return;
    if (this.#ignoredRequests++ === 0) this.#discardInput();
    if (this.#ignoredRequests > maxIgnoredRequests) return void this.socket.destroy();
    req.resume();
    this.endBehindAnswer();
  }

  /** Starts an exchange for the request that was accepted. */
  forward(exchange: Exchange): void {
    this.#exchange = exchange;
    exchange.start();
  }

  /** The running answer is the last one, and says so if its head is not out yet. */
  endBehindAnswer(): void {
    this.#isEnding = true;
    if (this.#response === undefined) this.end();
    else if (!this.#response.headersSent) this.#response.shouldKeepAlive = false;
  }

  /**
   * Ends the connection behind what has been written.
   *
   * @param lastWords raw bytes, in latin1
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

  /** Closes an idle connection. */
  close(): void {
    if (!this.#isEnding) this.socket.destroy();
  }

  /** Breaks off what is running so that it cannot look complete. */
  cut(): void {
    this.#exchange?.cut();
    this.socket.destroy();
  }

  /** Takes node's parser off. What still comes is read and dropped. */
  #discardInput(): void {
    this.socket.removeAllListeners('data');
    this.socket.on('data', () => {}).resume();
  }

  #destroyUnlessClosed(stream: Socket | IncomingMessage): void {
    const timer = setTimeout(() => this.socket.destroy(), lingerMs);
    stream.once('close', () => clearTimeout(timer));
  }

  /** While node does not read, because an upload is slower than its client, only the kernel knows of a client that leaves. */
  #watchWhilePaused(): void {
    if (this.#isWatched) return;
    this.#isWatched = true;
    const { socket } = this;
    const timer = setInterval(() => {
      this.#isWatched = !socket.destroyed && socket.isPaused();
      if (!this.#isWatched) clearInterval(timer);
      else if (this.isAnswering && this.#sockets.hasHungUp(socket)) socket.destroy(); // a whole answer is on its way
    }, presenceCheckMs);
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

  get(socket: Socket): Connection | undefined {
    return this.#all.get(socket);
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.#all.values();
  }
}
