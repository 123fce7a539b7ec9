import type { Dispatcher, buildConnector as connectors } from 'undici';
import type { Injection } from '../key/injection.ts';
import type { RawHeaders } from '../gate/raw-headers.ts';
import { hasForeignCoding } from './headers.ts';
import { Pool } from './undici.ts';
import type { Body, Upload } from './upload.ts';
import { type ConnectionOptions, upstreamConnector } from './upstream-connector.ts';

/** How long a connection to the upstream may lie idle before we close it. */
const idleConnectionMs = 60_000;

/** Largest response head. OpenAI's are about 1 KiB. */
const maxResponseHeadBytes = 64 * 1024;

/** Where requests go, and how patiently. */
export interface UpstreamOptions extends ConnectionOptions {
  /** Path and query, exactly as given. */
  target: string;
  /** 0 for none, as for the one below. */
  responseTimeoutMs: number;
  idleTimeoutMs: number;
}

export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly rawHeaders: RawHeaders;
}

/** What becomes of a request, in the order it happens. Once it was cancelled, nothing more is called. */
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
  /** Breaks the request off, whatever has become of it. */
  cancel(): void;
}

/** The one upstream, as a function of where its answer goes. */
export type Upstream = (sink: Sink) => UpstreamRequest;

/** A pool of connections on which every request carries the key. */
export function createUpstream(options: UpstreamOptions, injection: Injection): Upstream {
  const waiting = new Waiting();
  const pool = new Pool(options.origin.origin, {
    connect: waiting.connector(injection.connector(upstreamConnector(options))),
    // One request at a time on a connection: the key is only written to a socket that is idle.
    pipelining: 1,
    allowH2: false,
    keepAliveTimeout: idleConnectionMs,
    keepAliveMaxTimeout: idleConnectionMs,
    maxHeaderSize: maxResponseHeadBytes,
    headersTimeout: options.responseTimeoutMs,
    bodyTimeout: options.idleTimeoutMs,
  });
  const dispatch = (headers: string[], body: Body, handler: Dispatcher.DispatchHandler): void => {
    // undici's types do not know that a body may be an async iterable; its documentation does.
    pool.dispatch({ method: 'POST', path: options.target, headers, body: body as Uint8Array | null }, handler);
  };
  return (sink) => new PooledRequest(sink, dispatch, waiting);
}

/**
 * Counts requests that have no connection yet. undici connects anew for a request that was cancelled on its connection;
 * with none waiting, that connection would lie about unused, so it is refused.
 */
class Waiting {
  #count = 0;

  enter(): void {
    this.#count++;
  }

  leave(): void {
    this.#count--;
  }

  connector(connect: connectors.connector): connectors.connector {
    return (options, callback) => {
      if (this.#count > 0) connect(options, callback);
      else callback(new Error('no request waits for a connection'), null);
    };
  }
}

/** Adapts undici's handler interface to a sink. */
class PooledRequest implements UpstreamRequest, Dispatcher.DispatchHandler {
  readonly #sink: Sink;
  readonly #dispatch: (headers: string[], body: Body, handler: Dispatcher.DispatchHandler) => void;
  readonly #waiting: Waiting;
  #controller: Dispatcher.DispatchController | undefined;
  #isWaiting = false;
  /** The sink has been told the end, or has cancelled: it is told nothing more. */
  #isOver = false;

  constructor(sink: Sink, dispatch: (headers: string[], body: Body, handler: Dispatcher.DispatchHandler) => void, waiting: Waiting) {
    this.#sink = sink;
    this.#dispatch = dispatch;
    this.#waiting = waiting;
  }

  send(headers: string[], upload: Upload): void {
    upload.whenReadable(() => {
      if (this.#isOver) return;
      this.#isWaiting = true;
      this.#waiting.enter();
      this.#dispatch(headers, upload.take(), this);
    });
  }

  cancel(): void {
    this.#isOver = true;
    this.#controller?.abort(new Error('cancelled'));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#leaveWaiting();
    this.#controller = controller;
    if (this.#isOver) this.cancel();
    else this.#sink.begin();
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, _headers: unknown, reason = ''): void {
    if (this.#isOver || status < 200) return;
    const rawHeaders = (controller.rawHeaders as Buffer[]).map((bytes) => bytes.toString('latin1'));
    if (hasForeignCoding(rawHeaders)) throw new Error('the body is in a transfer coding that was not asked for');
    const head: ResponseHead = { status, reason: Buffer.from(reason).toString('latin1'), rawHeaders };
    if (!this.#sink.head(head, () => controller.resume())) controller.pause();
    // Neither has a body, whatever its Content-Length says (RFC 9112 section 6.3). undici would wait for one.
    if (status === 204 || status === 304) this.#end();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#isOver && !this.#sink.data(chunk)) controller.pause();
  }

  onResponseEnd(): void {
    if (!this.#isOver) this.#end();
  }

  onResponseError(_controller: unknown, error: Error): void {
    this.#leaveWaiting();
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sink.fail(error);
  }

  #end(): void {
    this.#isOver = true;
    this.#sink.end();
  }

  #leaveWaiting(): void {
    if (this.#isWaiting) this.#waiting.leave();
    this.#isWaiting = false;
  }
}
