import type { FieldRule } from './field-rules.ts';
import { pointerStep, shortPlace } from './json-value.ts';

/** Why a rule refuses a request. */
export interface Objection {
  readonly rule: FieldRule;
  /** Completes "The policy does not allow ...". */
  readonly why: string;
  /** A JSON pointer, fit for a message; empty for the whole body. */
  readonly place: string;
}

/** What the rules object to in one request: the first thing of each rule, in the order in which they were found. */
export class Findings {
  readonly #all = new Map<FieldRule, Objection>();
  /** The names and indexes that lead to what is being judged. */
  readonly #path: Array<string | number> = [];

  get all(): readonly Objection[] {
    return [...this.#all.values()];
  }

  /** @param steps from where we are to what is objected to */
  add(rule: FieldRule, why: string, ...steps: Array<string | number>): void {
    if (this.#all.has(rule)) return;
    this.#all.set(rule, { rule, why, place: shortPlace([...this.#path, ...steps].map(pointerStep).join('')) });
  }

  /** Judges one step further in. */
  within(step: string | number, judge: () => void): void {
    this.#path.push(step);
    judge();
    this.#path.pop();
  }
}
