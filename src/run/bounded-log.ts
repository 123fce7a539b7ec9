import { type Log, quote } from './log.ts';

/** Lines of one kind in a burst, after a quiet time; then one more each interval. */
const burstLines = 100;
const lineIntervalMs = 1_000;

/**
 * Logs what clients and upstreams can cause, up to a rate for each kind of event (a token bucket), so that they can neither
 * fill a disk nor hide one kind behind another. Suppressed lines are counted, and the count goes with the next one.
 */
export class BoundedLog {
  readonly #log: Log;
  readonly #buckets = new Map<string, { allowance: number; refilledAtMs: number; suppressed: number }>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param kind one of a closed set, or memory would grow */
  say(message: string, kind = ''): void {
    const nowMs = performance.now();
    const { allowance, refilledAtMs, suppressed } = this.#buckets.get(kind) ?? { allowance: burstLines, refilledAtMs: nowMs, suppressed: 0 };
    const refilled = Math.min(burstLines, allowance + (nowMs - refilledAtMs) / lineIntervalMs);
    const isLogged = refilled >= 1;
    this.#buckets.set(kind, { allowance: isLogged ? refilled - 1 : refilled, refilledAtMs: nowMs, suppressed: isLogged ? 0 : suppressed + 1 });
    if (isLogged) this.#log.say(suppressed === 0 ? message : `${message} (${suppressed} like it before were not logged)`);
  }

  /** Says it the first time. */
  once(message: string): void {
    if (!this.#buckets.has(message)) this.say(message, message);
  }

  /**
   * A request was refused.
   *
   * @param kind an error code
   * @param detail may be text that a client chose
   */
  note(kind: string, detail: string, uid?: number): void {
    this.say(`refused (${kind}): ${quote(detail)}${uid === undefined ? '' : ` from uid ${uid}`}`, kind);
  }
}
