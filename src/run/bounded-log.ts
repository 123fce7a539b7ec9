import type { Log } from './log.ts';

/** Lines in a burst, after a quiet time. */
const burstLines = 200;

/** Time until one more line is allowed, once the burst is spent. */
const lineIntervalMs = 1_000;

/**
 * Logs events up to a rate (a token bucket): clients can cause these events, and must not be able to fill a disk.
 * Suppressed events are counted, and the count goes with the next line.
 */
export class BoundedLog {
  readonly #log: Log;
  #allowance = burstLines;
  #refilledAtMs = performance.now();
  #suppressed = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param message may hold what an upstream sent: control and non-ASCII characters are escaped */
  say(message: string): void {
    const nowMs = performance.now();
    this.#allowance = Math.min(burstLines, this.#allowance + (nowMs - this.#refilledAtMs) / lineIntervalMs);
    this.#refilledAtMs = nowMs;
    if (this.#allowance < 1) {
      this.#suppressed++;
      return;
    }
    this.#allowance--;
    if (this.#suppressed > 0) this.#log.say(`${this.#suppressed} messages before this one were not logged`);
    this.#suppressed = 0;
    this.#log.say(message.replace(/[^\x20-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`));
  }
}
