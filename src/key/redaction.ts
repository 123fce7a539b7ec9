import type { LockedKey } from './locked-key.ts';

/** Takes the place of each byte of a key that came back. It cannot be part of a key, so masked bytes never match again. */
const mask = '*';

const nothing = Buffer.alloc(0);

/**
 * Keeps an answer from carrying the key back, whatever the upstream echoes: its bytes are masked where they stand, so
 * lengths stay as they are. One per answer.
 */
export class Redaction {
  readonly #key: LockedKey;
  readonly #onFound: () => void;
  #found = false;
  /** The end of what came so far, if it could be the beginning of a key. */
  #tail: Buffer = nothing;

  /** @param onFound called once, the first time that the key is found in this answer */
  constructor(key: LockedKey, onFound: () => void) {
    this.#key = key;
    this.#onFound = onFound;
  }

  /** Masks the key in a header's name or value, or in a reason phrase. */
  field(bytes: Buffer): string {
    if (bytes.length >= this.#key.length) this.#maskIn(bytes);
    return bytes.toString('latin1');
  }

  /**
   * Masks the key in the next chunk of the body.
   *
   * @returns what can go on to the client now: all of it, but for a tail that could be the key's beginning. That tail
   *          comes with the next chunk or with `end`.
   */
  chunk(bytes: Buffer): Buffer {
    const all = this.#tail.length === 0 ? bytes : Buffer.concat([this.#tail, bytes]);
    this.#maskIn(all);
    const undecided = this.#key.beginningAtEndOf(all);
    if (undecided === 0) {
      this.#tail = nothing;
      return all;
    }
    this.#tail = Buffer.from(all.subarray(all.length - undecided));
    return all.subarray(0, all.length - undecided);
  }

  /** The tail that was held back, once it is known that nothing follows. */
  end(): Buffer {
    const tail = this.#tail;
    this.#tail = nothing;
    return tail;
  }

  #maskIn(bytes: Buffer): void {
    for (let at = this.#key.indexIn(bytes, 0); at !== -1; at = this.#key.indexIn(bytes, at)) {
      bytes.fill(mask, at, at + this.#key.length);
      if (!this.#found) this.#onFound();
      this.#found = true;
    }
  }
}
