import { type Log, quote } from './log.ts';

/** Lines of one kind in a burst, after a quiet time. */
const burstLines = 100;

/** Time until one more line is allowed, once the burst is spent. */
const lineIntervalMs = 1_000;

interface Bucket {
  allowance: number;
  refilledAtMs: number;
  suppressed: number;
}

/**
 * Logs what clients and upstreams can cause, up to a rate for each kind of event (a token bucket), so that they can neither
 * fill a disk nor hide one kind behind another. Suppressed lines are counted, and the count goes with the next one.
 */
export class BoundedLog {
  readonly #log: Log;
  readonly #buckets = new Map<string, Bucket>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param kind one of a closed set, or memory would grow */
  say(message: string, kind = ''): void {
    const nowMs = performance.now();
    const bucket = this.#buckets.get(kind) ?? { allowance: burstLines, refilledAtMs: nowMs, suppressed: 0 };
    this.#buckets.set(kind, bucket);
    bucket.allowance = Math.min(burstLines, bucket.allowance + (nowMs - bucket.refilledAtMs) / lineIntervalMs);
    bucket.refilledAtMs = nowMs;
    if (bucket.allowance < 1) {
      bucket.suppressed++;
      return;
    }
    bucket.allowance--;
    this.#log.say(bucket.suppressed === 0 ? message : `${message} (${bucket.suppressed} like it before were not logged)`);
    bucket.suppressed = 0;
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
   * @param uid the user who asked, where that is known
   */
  note(kind: string, detail: string, uid?: number): void {
    this.say(`refused (${kind}): ${quote(detail)}${uid === undefined ? '' : ` from uid ${uid}`}`, kind);
  }
}
