import type { Injection } from '../key/injection.ts';
import { KeepWarm, SuspendCheck } from './keep-warm.ts';
import type { KernelSockets } from './kernel-sockets.ts';
import type { Body, Upload } from './upload.ts';
import { type ConnectionOptions, upstreamConnector } from './upstream-connector.ts';
import type { RequestEvents, ResponseHead, UpstreamConnection } from './upstream-connection.ts';
import { isTimeout } from './upstream-error.ts';
import { type Waiter, UpstreamPool } from './upstream-pool.ts';

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

/** Receives a request's events in order; not called again after a cancel. */
export interface Sink extends Omit<RequestEvents, 'failed'> {
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
  const pool = new UpstreamPool(upstreamConnector(options), { ...options, injection, sockets });
  const keepWarm = new KeepWarm(pool, options.keepWarmMs, report);
  const suspend = new SuspendCheck();
  const acquire = (take: Waiter): void => {
    if (suspend.wasSuspended()) pool.dropIdle();
    keepWarm.noteRequest();
    pool.acquire(take);
  };
  return { upstream: (sink) => new PooledRequest(sink, options.target, pool, acquire), connectAhead: () => keepWarm.start() };
}

/** How many more new connections a request may try when those it got ended before it was written to them. */
const maxFurtherAttempts = 3;

/** A request and the connections that it may take, one after the other: it is sent on one at most. */
export class PooledRequest implements UpstreamRequest, RequestEvents {
  readonly #sink: Sink;
  readonly #target: string;
  readonly #pool: UpstreamPool;
  readonly #acquire: (take: Waiter) => void;
  #take: Waiter | undefined;
  #connection: UpstreamConnection | undefined;
  /** To be called where the connection ended before the request was written to it. */
  #sendAgain: (() => void) | undefined;
  #attemptsLeft = maxFurtherAttempts;
  #isCancelled = false;

  constructor(sink: Sink, target: string, pool: UpstreamPool, acquire: (take: Waiter) => void) {
    this.#sink = sink;
    this.#target = target;
    this.#pool = pool;
    this.#acquire = acquire;
  }

  send(headers: string[], upload: Upload): void {
    upload.whenReadable(() => {
      if (!this.#isCancelled) this.#sendOnNext(headers, () => upload.take());
    });
  }

  #sendOnNext(headers: string[], takeBody: () => Body): void {
    this.#take = (error, connection) => {
      this.#take = undefined;
      if (connection === undefined) return this.#sink.fail(error ?? new Error('no connection'));
      this.#connection = connection;
      const body = takeBody();
      // A body in pieces has given its first one away by the time we know.
      this.#sendAgain = body === null || Buffer.isBuffer(body) ? () => this.#sendOnNext(headers, () => body) : undefined;
      connection.send(this.#target, headers, body, this);
    };
    this.#acquire(this.#take);
  }

  cancel(): void {
    this.#isCancelled = true;
    if (this.#take !== undefined) this.#pool.withdraw(this.#take);
    this.#connection?.end('the client left');
  }

  begin(): void {
    this.#sink.begin();
  }

  head(head: ResponseHead, resume: () => void): boolean {
    return this.#sink.head(head, resume);
  }

  data(bytes: Buffer): boolean {
    return this.#sink.data(bytes);
  }

  end(): void {
    this.#connection = undefined;
    this.#sink.end();
  }

  /** Each connection that was idle is gone then, so only new ones are counted. */
  failed(error: Error, isUnsent: boolean): void {
    const mayTry = isUnsent && !isTimeout(error) && this.#sendAgain !== undefined && (this.#connection?.isNew !== true || this.#attemptsLeft-- > 0);
    this.#connection = undefined;
    if (mayTry) this.#sendAgain?.();
    else this.#sink.fail(error);
  }
}
