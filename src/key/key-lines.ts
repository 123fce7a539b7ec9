import { lineFeed, parseKeyLine, tooLong } from './key-line.ts';
import { type LockedKey, type NextLine, copyBytes } from './locked-key.ts';

/**
 * `--renewable-key`: the lines that follow the first, in locked memory, each of which replaces the key. What is said of them
 * does not depend on their bytes: two keys of one length look the same.
 */
export class KeyLines {
  /** What node reads with: where the next bytes go, and that so many have come there. */
  readonly onread = { buffer: () => this.#area.subarray(this.#filled), callback: (count: number) => this.#take(count) };
  readonly #key: LockedKey;
  readonly #area: Buffer;
  readonly #report: (message: string) => void;
  #filled = 0;
  /** The line that is being read was too long, and its rest does not count. */
  #isSkipping = false;

  /** @param report told of each renewal, each line that is no key and the end of input; never of a key */
  constructor(key: LockedKey, { area, filled }: NextLine, report: (message: string) => void) {
    this.#key = key;
    this.#area = area;
    this.#report = report;
    this.#take(filled);
  }

  #take(count: number): true {
    const isNew = this.#filled; // there is no line feed before
    this.#filled += count;
    let begin = 0;
    for (;;) {
      const end = this.#area.subarray(0, this.#filled).indexOf(lineFeed, Math.max(begin, isNew));
      if (end === -1) break;
      if (this.#isSkipping) this.#isSkipping = false;
      else this.#replace(this.#area.subarray(begin, end));
      begin = end + 1;
    }
    this.#discard(begin);
    if (this.#filled === this.#area.length && !this.#isSkipping) {
      this.#isSkipping = true;
      this.#refuse(tooLong);
    }
    if (this.#isSkipping) this.#discard(this.#filled);
    return true;
  }

  end(): void {
    if (this.#filled > 0) this.#report('the last line on stdin was refused: it has no end');
    this.#discard(this.#filled);
    this.#report('stdin has ended, so no other key will come; the key in use stays');
  }

  /** Takes the first `count` bytes out of the area, and leaves zeros behind the rest. */
  #discard(count: number): void {
    copyBytes(this.#area.subarray(count, this.#filled), this.#area);
    this.#area.fill(0, this.#filled - count, this.#filled);
    this.#filled -= count;
  }

  #replace(line: Buffer): void {
    const parsed = parseKeyLine(line);
    if ('problem' in parsed) this.#refuse(parsed.problem);
    else this.#report(this.#key.replace(parsed.key) ? 'the key was renewed' : 'a key came after the use of the key had ended, and was not taken');
  }

  #refuse(problem: string): void {
    this.#report(`a line on stdin was refused: it ${problem}; the key in use stays`);
  }
}
