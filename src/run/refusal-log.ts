import { type Log, foreign } from './log.ts';

/** Shortest time between two summaries. */
const summaryIntervalMs = 1_000;

/**
 * Tells of refused requests without becoming a way to fill a disk: the first of a kind at once, the others counted, and
 * the counts at most once a second.
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
   * @param kind one of a closed set
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

  /** Writes the counts that no summary has told yet. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#counts.size === 0) return;
    const counts = [...this.#counts].map(([kind, count]) => `${count} ${kind}`);
    this.#counts.clear();
    this.#log.say(`refused more: ${counts.join(', ')}`);
  }
}
