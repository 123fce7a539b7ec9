import { type Log, foreign } from './log.ts';

/** Shortest time between two summaries. */
const summaryIntervalMs = 1_000;

/**
 * Logs refused requests, in a way that clients cannot use to fill a disk: the first of each kind at once; the others are
 * counted, and the counts are logged once a second at most.
 */
export class RefusalLog {
  readonly #log: Log;
  readonly #seen = new Set<string>();
  readonly #counts = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /**
   * @param kind one of a closed set, or memory would grow
   * @param detail may be text that a client chose
   * @param uid the user who asked, where that is known
   */
  note(kind: string, detail: string, uid?: number): void {
    if (!this.#seen.has(kind)) {
      this.#seen.add(kind);
      this.#log.say(`refused (${kind}): ${foreign(detail)}${uid === undefined ? '' : ` from uid ${uid}`}`);
      return;
    }
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
    this.#timer ??= setTimeout(() => this.flush(), summaryIntervalMs).unref();
  }

  /** Logs the counts since the last summary. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#counts.size === 0) return;
    const counts = [...this.#counts].map(([kind, count]) => `${count} ${kind}`);
    this.#counts.clear();
    this.#log.say(`refused more: ${counts.join(', ')}`);
  }
}
