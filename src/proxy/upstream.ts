import type { Body, Upload } from './upload.ts';
import type { Sink, UpstreamConnection } from './upstream-connection.ts';
import { isTimeout } from './upstream-error.ts';
import type { UpstreamPool, Waiter } from './upstream-pool.ts';

/** One request to the upstream. */
export interface UpstreamRequest {
  /**
   * Sends the request as soon as its body begins. The sink is told of everything that follows; nothing is thrown.
   *
   * @param headers see `headers.ts`
   */
  send(headers: string[], upload: Upload): void;
  /** Breaks the request off, at any stage. The sink is told nothing more. */
  cancel(): void;
}

/** The one upstream, as a function of where its answer goes. */
export type Upstream = (sink: Sink) => UpstreamRequest;

/** How many more new connections a request may try where the ones before ended before it was written to them. Idle ones do not count. */
const maxFurtherAttempts = 3;

/** A request and the connections that it may take, one after the other: it is sent on one at most. */
export class PooledRequest implements UpstreamRequest {
  readonly #sink: Sink;
  readonly #target: string;
  readonly #pool: UpstreamPool;
  #waiting: Waiter | undefined;
  #connection: UpstreamConnection | undefined;
  #attemptsLeft = maxFurtherAttempts;
  #isCancelled = false;

  /** @param target path and query */
  constructor(sink: Sink, target: string, pool: UpstreamPool) {
    this.#sink = sink;
    this.#target = target;
    this.#pool = pool;
  }

  send(headers: string[], upload: Upload): void {
    upload.whenReadable(() => {
      if (!this.#isCancelled) this.#sendOnNext(headers, () => upload.take());
    });
  }

  #sendOnNext(headers: string[], takeBody: () => Body): void {
    this.#waiting = (error, connection) => {
      this.#waiting = undefined;
      if (connection === undefined) return this.#sink.fail(error ?? new Error('no connection'));
      this.#connection = connection;
      const body = takeBody();
      connection.send(this.#target, headers, body, this.#sink, (error) => {
        // A body in pieces has given its first one away. Idle connections run out by themselves, so only new ones are counted.
        const mayTry = (body === null || Buffer.isBuffer(body)) && !isTimeout(error) && (!connection.isNew || this.#attemptsLeft-- > 0);
        if (mayTry) this.#sendOnNext(headers, () => body);
        else this.#sink.fail(error);
      });
    };
    this.#pool.acquire(this.#waiting);
  }

  cancel(): void {
    this.#isCancelled = true;
    if (this.#waiting !== undefined) this.#pool.withdraw(this.#waiting);
    this.#connection?.cancel(this.#sink);
  }
}
