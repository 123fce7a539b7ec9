import type { Log } from './log.ts';

/** Lines that may come at once, after a quiet time. */
const burstLines = 200;

/** Time in which one more line may come, once the burst is spent. */
const lineIntervalMs = 1_000;

/**
 * Tells of each event, but not without end: what clients can bring about must not fill a disk. Events beyond are
 * counted, and the count is told with the next line.
 */
export class BoundedLog {
  readonly #log: Log;
  #allowance = burstLines;
  #allowedAtMs = performance.now();
  #untold = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param message may hold what an upstream sent: control characters are escaped */
  say(message: string): void {
    const nowMs = performance.now();
    this.#allowance = Math.min(burstLines, this.#allowance + (nowMs - this.#allowedAtMs) / lineIntervalMs);
    this.#allowedAtMs = nowMs;
    if (this.#allowance < 1) {
      this.#untold++;
      return;
    }
    this.#allowance--;
    if (this.#untold > 0) this.#log.say(`${this.#untold} failures before this one were not told`);
    this.#untold = 0;
    this.#log.say(message.replace(/[^\x20-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`));
  }
}
