/** The seed of this run's random tests: TEST_SEED, to repeat a run, or a new one. Put it into the test's name, so that a failure shows it. */
export const seed: number = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 32));

/** Random values that depend only on a seed (mulberry32). */
export class Random {
  #state: number;

  constructor(start: number) {
    this.#state = start >>> 0;
  }

  /** From 0 to below 1. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `least` to `most`, both included. */
  whole(least: number, most: number): number {
    return least + Math.floor(this.fraction() * (most - least + 1));
  }

  /** True in `share` of the cases. */
  chance(share: number): boolean {
    return this.fraction() < share;
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[this.whole(0, from.length - 1)];
    if (picked === undefined) throw new Error('nothing to pick from');
    return picked;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at++) bytes[at] = this.whole(0, 255);
    return bytes;
  }

  /** `length` characters out of `alphabet`. */
  text(length: number, alphabet: string): string {
    return Array.from({ length }, () => alphabet[this.whole(0, alphabet.length - 1)] ?? '').join('');
  }

  /** Mostly small, sometimes around a power of two, where buffers end; from 0 to `most`. */
  size(most: number): number {
    if (this.chance(0.3)) return Math.min(most, this.whole(0, 20));
    if (this.chance(0.5)) return Math.min(most, Math.max(0, 2 ** this.whole(8, 17) + this.whole(-2, 2)));
    return this.whole(0, most);
  }

  /** `bytes` in up to `most` pieces, none of them empty. */
  split(bytes: Buffer, most: number): Buffer[] {
    const count = this.whole(1, most);
    const cuts = Array.from({ length: count - 1 }, () => this.whole(0, bytes.length)).sort((a, b) => a - b);
    return [0, ...cuts].map((start, index) => bytes.subarray(start, cuts[index] ?? bytes.length)).filter(({ length }) => length > 0);
  }
}
