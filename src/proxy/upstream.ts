import type { Dispatcher } from 'undici';
import { type Injection, KeyExpiredError } from '../key/injection.ts';
import { type RawHeaders, hasField } from '../gate/raw-headers.ts';
import { hasForeignCoding } from './headers.ts';
import { KeepWarm, SuspendCheck } from './keep-warm.ts';
import type { KernelSockets } from './kernel-sockets.ts';
import type { Body, Upload } from './upload.ts';
import { type ConnectionOptions, upstreamConnector } from './upstream-connector.ts';
import { isWithoutKey } from './upstream-error.ts';
import { type PooledConnection, type Waiter, UpstreamPool } from './upstream-pool.ts';

/** Where requests go, and how patiently. */
export interface UpstreamOptions extends ConnectionOptions {
  /** Path and query, exactly as given. */
  target: string;
  /** 0 for none, as for the one below. */
  responseTimeoutMs: number;
  idleTimeoutMs: number;
  /** How long after a request a connection is kept ready for the next; 0 for never. */
  keepWarmMs: number;
}

/** A final answer's status line and fields, as they came. */
export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly rawHeaders: RawHeaders;
}

/** Receives a request's events in order; not called again after a cancel. */
export interface Sink {
  /** There is a connection, and the request is being written to it. */
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

/** One request to the upstream. */
export interface UpstreamRequest {
  /**
   * Sends the request as soon as its body begins. The sink is told of everything that follows; nothing is thrown.
   *
   * @param headers see `headers.ts`
   */
  send(headers: string[], upload: Upload): void;
  /** Breaks the request off, at any stage. */
  cancel(): void;
}

/** The one upstream, as a function of where its answer goes. */
export type Upstream = (sink: Sink) => UpstreamRequest;

/** The upstream, and the connection to it that is made before it is asked for. */
export interface UpstreamConnections {
  readonly upstream: Upstream;
  /** To be called once the daemon listens: makes a first connection, and keeps one ready. */
  connectAhead(): void;
}

/** The same upstream, for a key that may expire: without a key, a request fails at once. */
export function unlessExpired(upstream: Upstream, hasKey: () => boolean): Upstream {
  return (sink) => {
    const request = upstream(sink);
    return {
      send: (headers, upload) => (hasKey() ? request.send(headers, upload) : sink.fail(new KeyExpiredError())),
      cancel: () => request.cancel(),
    };
  };
}

/**
 * Connections on which every request carries the key.
 *
 * @param report told why no connection can be kept warm
 */
export function connectUpstream(
  options: UpstreamOptions,
  injection: Injection,
  sockets: KernelSockets,
  report: (error: Error) => void,
): UpstreamConnections {
  const pool = new UpstreamPool({ ...options, connect: injection.connector(upstreamConnector(options)), sockets });
  const keepWarm = new KeepWarm(pool, options.keepWarmMs, report);
  const suspend = new SuspendCheck();
  const acquire = (take: Waiter): void => {
    if (suspend.wasSuspended()) pool.dropIdle();
    keepWarm.noteRequest();
    pool.acquire(take);
  };
  return { upstream: (sink) => new PooledRequest(sink, options.target, pool, acquire), connectAhead: () => keepWarm.start() };
}

/** The upstream reset a connection, behind bytes that could be all of an answer. */
class ResetError extends Error {
  readonly code = 'ECONNRESET';

  constructor() {
    super('the connection was reset');
  }
}

function rawHeadersOf(controller: Dispatcher.DispatchController): string[] {
  return (controller.rawHeaders as Buffer[]).map((bytes) => bytes.toString('latin1'));
}

/** Whether an answer tells its end by itself. If not, it is whole where the connection ends well. */
function isFramed(rawHeaders: RawHeaders): boolean {
  return hasField(rawHeaders, 'content-length') || hasField(rawHeaders, 'transfer-encoding');
}

/** How many more connections a request may try when those it got ended before anything was written to them. */
const maxFurtherAttempts = 3;

/** Adapts undici's handler interface to a sink. */
export class PooledRequest implements UpstreamRequest, Dispatcher.DispatchHandler {
  readonly #sink: Sink;
  readonly #target: string;
  readonly #pool: UpstreamPool;
  readonly #acquire: (take: Waiter) => void;
  #take: Waiter | undefined;
  #connection: PooledConnection | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  /** To be called where the connection ended before a byte of the request was written to it. */
  #sendAgain: (() => void) | undefined;
  #attemptsLeft = maxFurtherAttempts;
  #hasBegun = false;
  /** The sink has been told the end, or has cancelled: it is told nothing more. */
  #isOver = false;

  constructor(sink: Sink, target: string, pool: UpstreamPool, acquire: (take: Waiter) => void) {
    this.#sink = sink;
    this.#target = target;
    this.#pool = pool;
    this.#acquire = acquire;
  }

  send(headers: string[], upload: Upload): void {
    upload.whenReadable(() => {
      if (!this.#isOver) this.#sendOnNext(headers, () => upload.take());
    });
  }

  #sendOnNext(headers: string[], takeBody: () => Body): void {
    this.#take = (error, connection) => {
      this.#take = undefined;
      if (connection === undefined) return this.#fail(error ?? new Error('no connection'));
      this.#connection = connection;
      connection.onEnd = () => this.#controller?.resume();
      const body = takeBody();
      // A body in pieces has given its first one away by the time we know.
      this.#sendAgain = body === null || Buffer.isBuffer(body) ? () => this.#sendOnNext(headers, () => body) : undefined;
      // undici's types do not know that a body may be an async iterable; its documentation does.
      connection.client.dispatch({ method: 'POST', path: this.#target, headers, body: body as Uint8Array | null }, this);
    };
    this.#acquire(this.#take);
  }

  cancel(): void {
    this.#isOver = true;
    if (this.#take !== undefined) this.#pool.withdraw(this.#take);
    this.#controller?.abort(new Error('cancelled'));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isOver) return controller.abort(new Error('cancelled'));
    if (!this.#hasBegun) this.#sink.begin();
    this.#hasBegun = true;
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, _headers: unknown, reason = ''): void {
    if (this.#isOver || status < 200) return;
    const rawHeaders = rawHeadersOf(controller);
    if (hasForeignCoding(rawHeaders)) throw new Error('the body is in a transfer coding that was not asked for');
    const head: ResponseHead = { status, reason: Buffer.from(reason).toString('latin1'), rawHeaders };
    if (!this.#sink.head(head, () => controller.resume())) this.#pause(controller);
    // Neither has a body, even with a Content-Length (RFC 9112 section 6.3). undici would wait for one.
    if (status === 204 || status === 304) this.#end();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#isOver && !this.#sink.data(chunk)) this.#pause(controller);
  }

  /** Not once the upstream has ended: nothing more comes then, and undici has to see that what came is all. */
  #pause(controller: Dispatcher.DispatchController): void {
    if (this.#connection?.socket.readableEnded !== true) controller.pause();
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    const connection = this.#connection;
    const isCut = connection?.socket.readableEnded === true && !isFramed(rawHeadersOf(controller)) && this.#pool.wasReset(connection);
    if (connection !== undefined) this.#pool.release(connection);
    if (isCut) this.#fail(new ResetError());
    else if (!this.#isOver) this.#end();
  }

  /**
   * After an error the connection does not go back to the pool, though undici may not have used it at all. Where it did,
   * it closes the socket itself, after this call: to close it first, without its error, would trip one of its assertions.
   */
  onResponseError(_controller: unknown, error: Error): void {
    const connection = this.#connection;
    const endedUnused = connection !== undefined && connection.socket.destroyed && !connection.isSending;
    if (connection !== undefined) setImmediate(() => connection.socket.destroy());
    if (this.#isOver) return;
    if (endedUnused && !isWithoutKey(error) && this.#sendAgain !== undefined && this.#attemptsLeft-- > 0) this.#sendAgain();
    else this.#fail(error);
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sink.fail(error);
  }

  #end(): void {
    this.#isOver = true;
    this.#sink.end();
  }
}
