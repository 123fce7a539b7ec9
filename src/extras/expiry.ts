import type { RunControl } from '../proxy/observer.ts';
import type { Denial } from '../proxy/problem.ts';
import { Failure } from '../run/failure.ts';
import { type Clock, systemClock } from './policy/limits.ts';

/** How long requests are told that the loan is over before the daemon stops, in ms. */
const farewellMs = 60_000;

/**
 * Longest time between two looks at the clock, in ms. A timer alone would miss a clock that is set, or a machine that
 * sleeps; and node's timers end at once beyond 2^31 - 1 ms.
 */
const maxSleepMs = 1_000;

/** The end of a loan, `--expire-at`: a point in time, so that no restart gives more. The system's clock decides. */
export class Expiry {
  readonly #atMs: number;
  readonly #clock: Clock;
  #run: RunControl | undefined;
  #hasExpired = false;

  /**
   * @param atMs milliseconds of the Unix epoch
   * @throws {Failure} when that time has passed
   */
  constructor(atMs: number, clock: Clock = systemClock) {
    this.#atMs = atMs;
    this.#clock = clock;
    this.#checkNotOver();
  }

  /** What a request is told from then on. Once the time has come, it stays so, also if the clock is set back. */
  get denial(): Denial | undefined {
    if (!this.#hasExpired && this.#clock.wallMs() >= this.#atMs) this.#expire();
    if (!this.#hasExpired) return undefined;
    return { status: 400, isFinal: true, code: 'loan_expired', rule: 'expire_at', message: `This key was lent until ${this.#at}; that time is over.` };
  }

  /**
   * The key is there, and its use may begin.
   *
   * @throws {Failure} when the time has passed while the daemon waited for the key
   */
  start(run: RunControl): void {
    this.#checkNotOver();
    this.#run = run;
    this.#watch();
  }

  #watch(): void {
    if (this.denial !== undefined) return;
    setTimeout(() => this.#watch(), Math.min(maxSleepMs, this.#atMs - this.#clock.wallMs()));
  }

  #expire(): void {
    this.#hasExpired = true;
    const run = this.#run;
    if (run === undefined) return;
    run.endKey();
    run.say('the loan is over (--expire-at): the key is wiped');
    setTimeout(() => run.stop(), farewellMs);
  }

  /** That time, such as `2026-01-31T18:00:00.000Z`. */
  get #at(): string {
    return new Date(this.#atMs).toISOString();
  }

  #checkNotOver(): void {
    if (this.#clock.wallMs() < this.#atMs) return;
    throw new Failure(`--expire-at ${this.#at} has passed`, { hint: 'a loan that is over does not start again; lend anew with a later --expire-at' });
  }
}
