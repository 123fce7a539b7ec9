import { lineAreaBytes, maxKeyBytes, readFirstLine } from './key-line.ts';

/** Room to build the beginning of one request in. */
const scratchBytes = 20 * 1024;

/** Most bytes that may stand before the key in a request head: `POST target HTTP/1.1`, Host, Connection, the header's name. */
export const maxBytesBeforeKey = scratchBytes - maxKeyBytes;

/**
 * How much locked memory the key needs: 28 KiB, or 40 KiB with room for the next line. Old systems let a user lock 64 KiB.
 *
 *     | the key | scratch | the next line |
 */
export function lockedBytes(isRenewable: boolean): number {
  return maxKeyBytes + scratchBytes + (isRenewable ? lineAreaBytes : 0);
}

/**
 * Copies key bytes within locked memory, one at a time.
 *
 * `set`, `copy` and `copyWithin` call memmove(3), which leaves pieces of 16 bytes in vector registers. V8 saves
 * these in ordinary memory: the deoptimizer on the heap, write barriers on the stack.
 *
 * @param target at least as long as `source`; it may overlap it if it begins before it
 */
export function copyBytes(source: Uint8Array, target: Uint8Array): void {
  for (let at = 0; at < source.length; at++) target[at] = source[at] as number;
}

/** A part of a request as undici writes it: text in latin1, or bytes. */
export type Piece = string | Uint8Array;

/** Locked memory that a line is read into, and how many bytes of it were read already. */
export interface NextLine {
  readonly area: Buffer;
  readonly filled: number;
}

/**
 * The key, and the only memory it is ever written to.
 *
 * No method makes a string of it, copies it to ordinary memory or returns it: read(2) puts it into locked memory, and it
 * leaves in a view of locked memory that goes to a socket.
 */
export class LockedKey {
  readonly #area: Buffer;
  readonly #scratch: Buffer;
  #length = 0;
  #scratchUsed = 0;
  #hasEnded = false;

  private constructor(memory: Buffer) {
    this.#area = memory.subarray(0, maxKeyBytes);
    this.#scratch = memory.subarray(maxKeyBytes, lockedBytes(false));
  }

  /**
   * Reads the key: the first line of `fd`, without waiting for the end of input.
   *
   * @param memory `lockedBytes` of locked memory, which the key takes over; its allocator wipes it at exit
   * @param isRenewable later lines may replace the key. Without that, no other line may follow.
   * @returns `next`, where those are to be read into, with what came together with the first line
   * @throws {Failure} when there is no key, or something that is not one; the message quotes nothing of it
   */
  static read(fd: number, memory: Buffer, isRenewable: boolean): { key: LockedKey; next: NextLine } {
    const key = new LockedKey(memory);
    // The scratch is free until the first request.
    const line = isRenewable ? memory.subarray(lockedBytes(false)) : key.#scratch.subarray(0, lineAreaBytes);
    const { key: first, rest } = readFirstLine(fd, line, isRenewable);
    key.replace(first);
    copyBytes(rest, line);
    line.fill(0, rest.length);
    return { key, next: { area: line, filled: rest.length } };
  }

  /** Length of the key in bytes; 0 once its use has ended. */
  get length(): number {
    return this.#length;
  }

  /**
   * Puts another key in the place of this one, which is gone then. A request is built in one go (`inject`), so each has
   * one or the other.
   *
   * @param key in locked memory; the caller wipes it
   * @returns false after `end`: then the key was not taken
   */
  replace(key: Buffer): boolean {
    if (this.#hasEnded) return false;
    copyBytes(key, this.#area);
    this.#area.fill(0, key.length);
    this.#length = key.length;
    return true;
  }

  /** Forgets the key, and what was built with it, for good: no other takes its place, and `inject` must not be called. */
  end(): void {
    this.#hasEnded = true;
    this.#area.fill(0);
    this.#length = 0;
    this.clearScratch();
  }

  /**
   * Builds the beginning of a request in locked memory: `head` with the key in place of the first `placeholder`, and as
   * many of the `pieces` that follow it as fit.
   *
   * @returns `first`, a view of locked memory that is the caller's until `clearScratch`, and `rest`, what has to follow it.
   *          Where the head does not fit, `first` ends with the key.
   * @throws {RangeError} when there is no key, or `head` has no placeholder, or too far behind (see `maxBytesBeforeKey`)
   */
  inject(head: string, placeholder: string, pieces: readonly Piece[]): { first: Buffer; rest: Piece[] } {
    const at = head.indexOf(placeholder);
    const scratch = this.#scratch;
    if (this.length === 0 || at === -1 || at + this.length > scratch.length) throw new RangeError('no place for the key in the request head');
    scratch.write(head.slice(0, at), 'latin1');
    copyBytes(this.#area.subarray(0, this.length), scratch.subarray(at));
    let end = at + this.length;
    const rest: Piece[] = [];
    for (const piece of [head.slice(at + placeholder.length), ...pieces]) {
      if (rest.length > 0 || end + piece.length > scratch.length) rest.push(piece);
      else if (typeof piece === 'string') end += scratch.write(piece, end, 'latin1');
      else {
        scratch.set(piece, end);
        end += piece.length;
      }
    }
    this.#scratchUsed = end;
    return { first: scratch.subarray(0, end), rest };
  }

  /** To be called once no write reads what `inject` has built: the key is in one place again. */
  clearScratch(): void {
    this.#scratch.fill(0, 0, this.#scratchUsed);
    this.#scratchUsed = 0;
  }
}
