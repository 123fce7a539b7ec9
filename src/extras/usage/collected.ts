import { type MemoryBudget, Pieces } from '../whole-body.ts';

/** Longest text that is collected, in bytes. An answer to Codex has about 100 KB, one with images some MB. */
export const maxCollectedBytes = 16 * 1024 * 1024;

const nothing = Buffer.alloc(0);

/** Bytes that can be read only together. What is too long, or more than the budget has memory for, is dropped. */
export class Collected {
  readonly #held: MemoryBudget;
  /** Undefined once dropped. */
  #pieces: Pieces | undefined = new Pieces();
  #memory = 0;

  constructor(held: MemoryBudget) {
    this.#held = held;
  }

  add(bytes: Buffer): void {
    if (this.#pieces === undefined || bytes.length === 0) return;
    const more = this.#pieces.memoryWith(bytes.length) - this.#memory;
    this.#memory += more;
    if (this.#held.take(more) && this.#pieces.filled + bytes.length <= maxCollectedBytes) this.#pieces.add(bytes);
    else this.#drop();
  }

  /** What was collected, and the rest; undefined if it was dropped. Then begins anew. */
  take(rest: Buffer = nothing): Buffer | undefined {
    if (this.#memory === 0 && this.#pieces !== undefined) return rest;
    this.add(rest);
    const bytes = this.#pieces?.bytes;
    this.#drop();
    this.#pieces = new Pieces();
    return bytes;
  }

  #drop(): void {
    this.#held.giveBack(this.#memory);
    this.#memory = 0;
    this.#pieces = undefined;
  }
}
