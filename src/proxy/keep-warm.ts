import { uptime } from 'node:os';
import type { UpstreamPool } from './upstream-pool.ts';

/** How long after a request a connection is kept ready for the next. */
export const keepWarmMs = 900_000;

/** An unused connection that ends sooner than this counts as a failure: the upstream does not want it. */
const shortestLifeMs = 5_000;

const firstRetryMs = 1_000;
const longestRetryMs = 60_000;

/** How often we look for a suspend at most: a look reads a file of /proc. */
const suspendCheckMs = 5_000;

/** By how much the two clocks must drift apart. They are read one after the other, on a machine that may be busy. */
const suspendDriftMs = 2_000;

/** Two clocks: one goes on while the machine is suspended (CLOCK_BOOTTIME), the other does not (CLOCK_MONOTONIC). In ms. */
export interface Clocks {
  bootMs(): number;
  steadyMs(): number;
}

const systemClocks: Clocks = { bootMs: () => uptime() * 1000, steadyMs: () => performance.now() };

/**
 * Keeps one connection to the upstream ready, so that a request need not wait for DNS, TCP and TLS. One is made at start;
 * when one has closed, no other is idle, and there was a request not long ago, another. Nothing is sent on it.
 */
export class KeepWarm {
  readonly #pool: UpstreamPool;
  readonly #keepWarmMs: number;
  readonly #report: (error: Error) => void;
  #requestedAtMs = -Infinity;
  #connectedAtMs = -Infinity;
  #retryMs = 0;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param keepWarmMs how long after a request a connection is kept; 0 for never
   * @param report told of the first failure in a row
   */
  constructor(pool: UpstreamPool, keepWarmMs: number, report: (error: Error) => void) {
    this.#pool = pool;
    this.#keepWarmMs = keepWarmMs;
    this.#report = report;
    pool.whenNoneIsLeft((wasUsed) => {
      if (wasUsed || performance.now() - this.#connectedAtMs > shortestLifeMs) this.#retryMs = 0;
      this.#schedule();
    });
  }

  /** To be called once the daemon listens. */
  start(): void {
    if (this.#keepWarmMs > 0) this.#connect();
  }

  noteRequest(): void {
    this.#requestedAtMs = performance.now();
  }

  #schedule(): void {
    if (this.#timer !== undefined || performance.now() - this.#requestedAtMs > this.#keepWarmMs) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#connect();
    }, this.#retryMs).unref();
  }

  #connect(): void {
    this.#pool.connectAhead((error, wasReported) => {
      const isFirstFailure = this.#retryMs === 0;
      this.#retryMs = Math.min(longestRetryMs, Math.max(firstRetryMs, this.#retryMs * 2));
      if (error === null) {
        this.#connectedAtMs = performance.now();
        return;
      }
      if (isFirstFailure && !wasReported) this.#report(error);
      this.#schedule();
    });
  }
}

/** Notices that the machine was suspended, by two clocks that drift apart. */
export class SuspendCheck {
  readonly #clocks: Clocks;
  #checkedAtMs: number;
  #driftMs: number;

  constructor(clocks: Clocks = systemClocks) {
    this.#clocks = clocks;
    this.#checkedAtMs = clocks.steadyMs();
    this.#driftMs = clocks.bootMs() - this.#checkedAtMs;
  }

  /** Whether there was a suspend since the last look. */
  wasSuspended(): boolean {
    const nowMs = this.#clocks.steadyMs();
    if (nowMs - this.#checkedAtMs < suspendCheckMs) return false;
    this.#checkedAtMs = nowMs;
    const driftMs = this.#clocks.bootMs() - nowMs;
    const grown = driftMs - this.#driftMs;
    this.#driftMs = driftMs;
    return grown > suspendDriftMs;
  }
}
