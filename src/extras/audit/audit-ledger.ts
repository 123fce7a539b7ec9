import type { BodyFacts } from '../policy/body-facts.ts';
import { linesBack } from './audit-lines.ts';
import { type ReadRecord, amount, read, text } from './audit-reading.ts';

const minuteMs = 60_000;
const dayMs = 86_400_000;

/** So many days are summed up in a line: what is older than that on a clock is over. */
const maxDays = 30;

/** What is said about a file whose beginning is lost, and with it what was charged before. */
export const notBegun = 'its first lines are not whole: its daemon ended while it began this file. Put the one before it back in its place, or begin anew';

/** What is said about a log of a version that wrote no admissions. */
export const olderFormat = 'it is of an older version, which did not record what was charged';

/** A request that may use the key. */
export interface Admission extends Pick<BodyFacts, 'model' | 'serviceTier' | 'reasoningMode'> {
  readonly id: string;
  readonly uid: number | undefined;
  /** In milliseconds since the epoch. */
  readonly time: number;
  /** In tokens, of its input: reserved while it runs, and charged if its end is never known. */
  readonly estimate: number;
}

/**
 * What the lines of a log add up to: what was charged, and what was admitted and has not ended. It is the log's, whatever
 * the daemon served and whoever reads it: limits, a restart, `audit verify`.
 */
export class Ledger {
  /** When requests were admitted in the last minute before this start, in milliseconds since the epoch. */
  readonly recent: number[] = [];
  readonly #days = new Map<string, number>();
  readonly #open = new Map<string, Admission>();
  /** Read back from its end, a log tells of the end first. */
  readonly #unmatched = new Set<string>();
  /** Tokens charged in all, and reserved for what has not ended. */
  tokens = 0;
  reserved = 0;

  /** Admitted, and not ended, by id. */
  get open(): ReadonlyMap<string, Admission> {
    return this.#open;
  }

  /** Tokens charged on a UTC day, and on the one after it: a clock that is set back a little gives nothing a second time. */
  tokensAround(timeMs: number): number {
    return (this.#days.get(dayOf(timeMs)) ?? 0) + (this.#days.get(dayOf(timeMs + dayMs)) ?? 0);
  }

  admit(admission: Admission): void {
    if (this.#unmatched.delete(admission.id) || this.#open.has(admission.id)) return;
    this.#open.set(admission.id, admission);
    this.reserved += admission.estimate;
  }

  /**
   * @param charged undefined for what was not admitted, which costs nothing
   * @returns whether its admission is known, where it needs one
   */
  end({ id, time, charged }: { readonly id: string; readonly time: number; readonly charged?: number | undefined }): boolean {
    if (charged === undefined) return true;
    this.tokens += charged;
    this.#addToDay(dayOf(time), charged);
    this.reserved -= this.#open.get(id)?.estimate ?? 0;
    const isKnown = this.#open.delete(id);
    if (!isKnown) this.#unmatched.add(id);
    return isKnown;
  }

  /** What stands in a line, so that no line before it has to be read to go on. */
  sums(): { tokens: number; days: Readonly<Record<string, number>> } {
    return { tokens: this.tokens, days: Object.fromEntries([...this.#days].sort().slice(-maxDays)) };
  }

  /** Goes on from such sums. */
  addSums({ tokens, days }: ReadRecord): void {
    this.tokens += amount(tokens);
    for (const [day, charged] of Object.entries(days ?? {})) this.#addToDay(day, amount(charged));
  }

  /** A line of a log, `begin` and `start` aside. The order does not matter. @returns as `end` */
  take(record: ReadRecord): boolean {
    const { kind, charged, uid, model, service_tier: serviceTier, reasoning_mode: reasoningMode, estimate } = record;
    const [id, time] = [text(record['id']), Date.parse(record.time) || 0];
    if (kind === 'request') return this.end({ id, time, charged: charged === undefined ? undefined : amount(charged) });
    if (kind === 'admitted') this.admit({ id, time, uid: typeof uid === 'number' ? uid : undefined, model: text(model), serviceTier: text(serviceTier), reasoningMode: text(reasoningMode), estimate: amount(estimate) });
    return true;
  }

  #addToDay(day: string, tokens: number): void {
    this.#days.set(day, (this.#days.get(day) ?? 0) + tokens);
  }
}

/**
 * Reads a log back from its end: to the last line that sums up what is before it, and over the last minute.
 *
 * @throws when it cannot tell what was charged
 */
export function ledgerOf(fd: number): Ledger {
  const ledger = new Ledger();
  const minuteAgo = new Date(Date.now() - minuteMs).toISOString();
  let [carried, isSummedUp, isEmpty] = [0, false, true];
  for (const line of linesBack(fd)) {
    const record = read(line);
    if (record === undefined) continue;
    if (isSummedUp && record.time < minuteAgo) break;
    isEmpty = false;
    const { kind, open } = record;
    if (kind === 'admitted' && record.time >= minuteAgo) ledger.recent.push(Date.parse(record.time));
    carried += Number(record['carried'] === true);
    if (isSummedUp) continue;
    ledger.take(record);
    if (kind === 'begin' && open !== carried) throw new Error(open === undefined ? olderFormat : notBegun);
    if (kind !== 'begin' && kind !== 'start') continue;
    ledger.addSums(record);
    isSummedUp = true;
  }
  if (!isSummedUp && !isEmpty) throw new Error(olderFormat);
  return ledger;
}

function dayOf(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 'YYYY-MM-DD'.length);
}
