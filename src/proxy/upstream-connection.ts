import type { Socket } from 'node:net';
import type { Client as UndiciClient, Dispatcher } from 'undici';
import type { Injection } from '../key/injection.ts';
import type { Piece } from '../key/locked-key.ts';
import { type SocketWrite, TlsReadiness, type WriteCallback } from '../key/tls-readiness.ts';
import { type RawHeaders, contentLength, hasField } from '../gate/raw-headers.ts';
import { CodedError } from '../run/failure.ts';
import { hasOtherCoding } from './headers.ts';
import type { KernelSockets } from './kernel-sockets.ts';
import { ResponseHeads } from './response-heads.ts';
import { Client } from './undici.ts';
import type { Body } from './upload.ts';
import { isTlsAlert } from './upstream-error.ts';

/** undici closes a connection that is idle for this long, 24 hours: in effect the upstream decides. */
const upstreamIdleMs = 86_400_000;

/** Largest response head. OpenAI's are about 1 KiB. */
const maxResponseHeadBytes = 64 * 1024;

/** How much of an upload may wait in a socket before the client has to, in bytes: some of the pieces in which node reads. */
const maxUnsentBytes = 256 * 1024;

/** How long we keep reading from an upstream that no longer takes our bytes: its answer may be on the way. */
const earlyResponseTimeoutMs = 500;

/** What all connections share. */
export interface ConnectionContext {
  /** `https://host:port` or `http://host:port`. */
  readonly origin: URL;
  /** 0 for none, as for the one below. */
  readonly responseTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly injection: Pick<Injection, 'write'>;
  readonly sockets: KernelSockets;
}

/** A final answer's status line and fields, as they came. */
export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly rawHeaders: RawHeaders;
}

/** Hears what becomes of a request, in this order. Nothing is told after `end`, `fail` or a cancel. */
export interface Sink {
  /** Head and key have been written. */
  begin(): void;
  /**
   * The answer begins. Interim answers are not told (RFC 9110 section 15.2): they concern this hop alone.
   *
   * @param resume ends a pause
   * @returns false for a pause, as `data` does
   */
  head(head: ResponseHead, resume: () => void): boolean;
  data(bytes: Buffer): boolean;
  end(): void;
  /** There is no answer, or no more of it. */
  fail(error: Error): void;
}

/**
 * What a connection is doing. Whatever its state, it is over once its socket is destroyed.
 *
 * | state | what may happen | anything else |
 * | --- | --- | --- |
 * | idle | `send` | bytes of an answer or an end: the connection ends |
 * | claimed | the head waits until the socket is ready, and is written | the same, and the request is unsent |
 * | sending | the request goes up, the answer comes down | |
 * | spent | the answer is whole; idle in the next turn, if all of the request has left node | else the connection ends |
 */
type State = 'idle' | 'claimed' | 'sending' | 'spent';

/** A part of a request in a socket's queue, see `stream.Writable`. */
type Chunk = { readonly chunk: Piece; readonly encoding: BufferEncoding };

function chunkOf(chunk: Piece): Chunk {
  return { chunk, encoding: typeof chunk === 'string' ? 'latin1' : ('buffer' as BufferEncoding) };
}

/** The connection ended while nothing was under way on it, or was ended here. */
function ended(why: string, cause?: Error | null): CodedError {
  return new CodedError('UPSTREAM_ENDED', why, cause);
}

/** Hears nothing: between requests. */
const nobody: Sink = { begin() {}, head: () => true, data: () => true, end() {}, fail() {} };

/**
 * One connection to the upstream: its socket, the undici client that speaks HTTP on it and on no other, and its state.
 * Requests take it one at a time. Nothing else changes these three.
 *
 * What it overrides on the socket before undici gets it, and the test that fails without:
 *
 * | override | why | source | test |
 * | --- | --- | --- | --- |
 * | `push` | bytes before the request is written are no answer to it; for `ResponseHeads` and `TlsReadiness` | RFC 9112 section 9.2, GHSA-35p6-xmwp-9g52 | forwarding/whose-answer, interim-answers |
 * | `_write`, `_writev` | the first write of a request is its head, which waits here and leaves by `Injection.write`; behind it, node's own queue does the rest | `src/key/README.md` | custody/memory, split-ticket |
 * | | a failed write would destroy the socket with an early answer still unread in it | nodejs/node#54366, RFC 9112 section 9.6 | forwarding/early-answer |
 * | `write` | undici gives a connection up whose upload waits for 'drain' when the answer is complete, and TLS always emits that in a later turn: the pause is asked for late | client-h1.js, `kWriting` | forwarding/early-answer |
 * | 'error' | undici takes ECONNRESET for the end of an answer without a length; with the code of its own errors it does not | nodejs/undici#784, #2825 | forwarding/upstream-cut |
 * | 'end' | undici trips an assertion, or cuts a whole answer, when an upstream closes behind an answer that a slow client has paused | nodejs/undici#5360, fixed in undici 8 only | forwarding/close-behind-answer |
 *
 * Every `destroy` has an error: without one, undici trips an assertion on a paused answer. None has ECONNRESET.
 */
export class UpstreamConnection implements Dispatcher.DispatchHandler {
  readonly socket: Socket;
  readonly #context: ConnectionContext;
  readonly #onIdle: () => void;
  readonly #client: UndiciClient;
  readonly #readiness: TlsReadiness;
  readonly #write: SocketWrite;
  readonly #writev: Socket['_writev'];
  /**
   * Went straight to the request that it was made for; the pool ends that where none takes it at once. Then nobody looks
   * whether it lives: with TLS 1.3 a refusal comes after the handshake, and is told.
   */
  isNew = true;
  /** Whether it has served a request. */
  wasUsed = false;
  #state: State = 'idle';
  #sink = nobody;
  #unsent = (_error: Error): void => {};
  #heads = new ResponseHeads();
  /** Whether the answer tells its end by itself. If not, it is whole where the connection ends well. */
  #isFramed = false;
  #resume = (): void => {};

  /**
   * @param socket connected and verified
   * @param onIdle told each time that a request is over and another may take the connection
   */
  constructor(socket: Socket, context: ConnectionContext, onIdle: () => void) {
    this.socket = socket;
    this.#context = context;
    this.#onIdle = onIdle;
    this.#readiness = new TlsReadiness(socket);
    this.#write = socket._write.bind(socket);
    this.#writev = socket._writev?.bind(socket);
    this.#client = this.#clientOn(socket);
    this.#override(socket);
    if (socket.readableLength > 0 || socket.readableEnded) this.#destroy('the upstream spoke first');
    socket.read(0); // or its end would not be seen before the first request
  }

  /**
   * Sends a request. The connection is idle, and is this request's until `end` or `fail` is told.
   *
   * @param headers see `headers.ts`
   * @param unsent called in place of `fail` where the connection ended before the request was written to it
   */
  send(path: string, headers: string[], body: Body, sink: Sink, unsent: (error: Error) => void): void {
    if (this.socket.destroyed) return unsent(this.socket.errored ?? ended('the connection has ended'));
    this.#state = 'claimed';
    this.#sink = sink;
    this.#unsent = unsent;
    this.#heads = new ResponseHeads();
    // undici's types do not know that a body may be an async iterable; its documentation does.
    this.#client.dispatch({ method: 'POST', path, headers, body: body as Uint8Array | null }, this);
  }

  /** Ends the connection, if the request with that sink is still on it. */
  cancel(sink: Sink): void {
    if (sink === this.#sink) this.end('the request was cancelled');
  }

  /** Ends the connection, whatever it is doing. Nothing more is told of its request. */
  end(why: string): void {
    this.#sink = nobody;
    this.#unsent = () => {};
    this.#destroy(why);
  }

  #destroy(why: string): void {
    this.socket.destroy(ended(why));
  }

  #clientOn(socket: Socket): UndiciClient {
    const { origin, responseTimeoutMs, idleTimeoutMs } = this.#context;
    let isGiven = false;
    return new Client(origin.origin, {
      // undici asks for another connection to send a request again that is unsent. Which one that is, is not for undici to choose.
      connect: (_options, callback) => {
        if (isGiven) return callback(ended(socket.errored?.message ?? 'the connection has ended', socket.errored), null);
        isGiven = true;
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
  }

  #override(socket: Socket): void {
    const push = socket.push.bind(socket);
    socket.push = (bytes: Buffer | null): boolean => {
      if (this.#state !== 'sending') this.#destroy(bytes === null ? 'the upstream closed the connection' : 'the upstream sent what no request asked for');
      if (bytes === null || socket.destroyed) return push(null);
      this.#readiness.delivered(bytes.length);
      const ready = this.#heads.take(bytes);
      if (ready instanceof Error) socket.destroy(ready);
      else if (ready.length > 0) return push(ready);
      return !socket.destroyed;
    };
    socket._write = (chunk: Piece, encoding, done) => this.#take([{ chunk, encoding }], done);
    if (this.#writev !== undefined) socket._writev = (chunks, done) => this.#take(chunks, done);
    const write = socket.write.bind(socket) as (...piece: unknown[]) => boolean;
    socket.write = (...piece: unknown[]): boolean => write(...piece) || socket.writableLength <= maxUnsentBytes;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') error.code = 'UND_ERR_SOCKET';
      // After a TLS alert node goes on to 'end', and undici would report "other side closed" in place of the alert.
      else if (isTlsAlert(error)) socket.destroy(error);
    });
    // Before undici's own listener: nothing more comes, and undici has to see that what came is all.
    socket.once('end', () => this.#resume());
  }

  /** What undici has written. Node's Writable lets nothing follow before `done` is called. */
  #take(chunks: Chunk[], done: WriteCallback): void {
    if (this.#state === 'claimed') this.#sendHead(chunks, this.#holdingBack(done));
    else this.#pass(chunks, this.#holdingBack(done));
  }

  #pass(chunks: Chunk[], done: WriteCallback): void {
    const [first] = chunks;
    if (first === undefined) done();
    else if (chunks.length === 1 || this.#writev === undefined) this.#write(first.chunk, first.encoding, done);
    else this.#writev(chunks, done);
  }

  /** Writes the first pieces of a request, once the socket is ready. */
  #sendHead([first, ...following]: Chunk[], done: WriteCallback): void {
    const { socket } = this;
    const { injection, sockets } = this.#context;
    this.#readiness.probe(this.#write, String(first?.chunk), (error, head) => {
      if (error !== null) return done(error);
      if (socket.destroyed) return;
      if (!this.#readiness.isSure()) return this.#destroy('the TLS connection was not ready, so the key was not written to it');
      // Its end may be in the kernel, unread.
      if (!this.isNew && sockets.hasHungUp(socket)) return this.#destroy('the upstream had closed the connection');
      this.#state = 'sending';
      try {
        injection.write(socket, this.#write, head, following.map(({ chunk }) => chunk), (error, rest) => (error ? done(error) : this.#pass(rest.map(chunkOf), done)));
        this.#sink.begin();
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
  }

  /** An upstream may answer an upload early (413, say) and close. Our next write then fails; that is told once there is nothing left to read. */
  #holdingBack(done: WriteCallback): WriteCallback {
    return (error) => {
      if (error === undefined || error === null) return done();
      const { socket } = this;
      const fail = (): void => {
        clearTimeout(timer);
        for (const event of ['end', 'close', 'error']) socket.off(event, fail);
        done(error);
      };
      const timer = setTimeout(fail, earlyResponseTimeoutMs);
      for (const event of ['end', 'close', 'error']) socket.on(event, fail);
    };
  }

  // undici's older interface: the newer one parses the fields into an object that nobody here looks at.

  onConnect(): void {} // undici is about to write; `begin` is told once it has

  onHeaders(status: number, fields: Buffer[], resume: () => void, reason = ''): boolean {
    if (status < 200) return true;
    const rawHeaders = fields.map((bytes) => bytes.toString('latin1'));
    if (hasOtherCoding(rawHeaders)) throw new Error('the body is in a transfer coding that was not asked for');
    this.#isFramed = hasField(rawHeaders, 'content-length') || hasField(rawHeaders, 'transfer-encoding');
    this.#resume = resume;
    const wantsMore = this.#sink.head({ status, reason: Buffer.from(reason).toString('latin1'), rawHeaders }, resume);
    // Neither has a body, whatever Content-Length says (RFC 9112 section 6.3). undici would wait for one.
    if ((status === 204 || status === 304) && (contentLength(rawHeaders) ?? 0) > 0) {
      const sink = this.#sink;
      this.end('undici waits for a body that does not come');
      sink.end();
    }
    return wantsMore || this.socket.readableEnded; // a pause would then hide from undici that what came is all
  }

  onData(bytes: Buffer): boolean {
    return this.#sink.data(bytes) || this.socket.readableEnded;
  }

  onComplete(): void {
    const { socket } = this;
    const sink = this.#sink;
    const isCut = socket.readableEnded && !this.#isFramed && this.#context.sockets.wasReset(socket);
    // Or the connection would keep its last request, with all of the body, while it lies idle.
    this.#sink = nobody;
    this.#unsent = this.#resume = () => {};
    this.#state = 'spent';
    setImmediate(() => this.#becomeIdle()); // undici is not done with it yet
    if (isCut) sink.fail(ended('the connection was reset behind bytes that could be all of the answer'));
    else sink.end();
  }

  #becomeIdle(): void {
    if (this.socket.destroyed) return;
    if (this.socket.writableLength > 0) return this.#destroy('the answer came before the request had been sent');
    this.#state = 'idle';
    this.isNew = false;
    this.wasUsed = true;
    this.#onIdle();
  }

  onError(error: Error): void {
    // Without an error of the socket's, the fault is undici's or the request's, and another connection would not help.
    const isUnsent = this.#state === 'claimed' && this.socket.errored !== null;
    const tell = isUnsent ? this.#unsent : this.#sink.fail.bind(this.#sink);
    this.end(error.message); // undici may not have used it at all
    tell(error);
  }
}
