import { readSync } from 'node:fs';
import { isatty } from 'node:tty';
import { Failure, reason } from '../run/failure.ts';

/** Longest key, in bytes. JSON Web Tokens with many claims reach 4 KiB. */
export const maxKeyBytes = 8 * 1024;

/** Room to read the key into: the key, its line ending, and enough more to see that something else came along. */
const keyAreaBytes = 12 * 1024;

/** Room to build the beginning of one request in. With the key's area half of the 64 KiB that old systems let a user lock. */
const scratchBytes = 20 * 1024;

/** How much memory is asked of the system. */
export const lockedBytes = keyAreaBytes + scratchBytes;

/** Most bytes that may stand before the key in a request head: `POST target HTTP/1.1`, Host, Connection, the header's name. */
export const maxBytesBeforeKey = scratchBytes - maxKeyBytes;

/** Wait between two looks at a stdin that is in non-blocking mode and has nothing yet. */
const stdinPollMs = 5;

const pipeHint = 'pipe it in: printenv OPENAI_API_KEY | env -u OPENAI_API_KEY responses-api-proxy';

const lineFeed = 0x0a;
const carriageReturn = 0x0d;

/**
 * The key, and the only memory it is ever written to.
 *
 * Nothing here makes a string of it, copies it to ordinary memory or hands it out: it is read by read(2) into locked
 * memory and leaves in a view of locked memory that goes to a socket.
 */
export class LockedKey {
  readonly #key: Buffer;
  readonly #scratch: Buffer;

  private constructor(key: Buffer, scratch: Buffer) {
    this.#key = key;
    this.#scratch = scratch;
  }

  /**
   * Reads the key: the first line of `fd`, without waiting for its end.
   *
   * @param memory `lockedBytes` of locked memory, the key's from now on; who took it wipes it
   * @throws {Failure} when there is no key, or something that is not one; the message holds none of it
   */
  static read(fd: number, memory: Buffer): LockedKey {
    return new LockedKey(readFirstLine(fd, memory.subarray(0, keyAreaBytes)), memory.subarray(keyAreaBytes));
  }

  /** Length of the key in bytes. */
  get length(): number {
    return this.#key.length;
  }

  /**
   * Builds the beginning of a request in locked memory: `head` with the key in place of the first `placeholder`, and as
   * many of the `pieces` that follow it as fit.
   *
   * @returns `first`, a view of locked memory that the next call overwrites, and `rest`, what has to follow it.
   *          Where the head does not fit, `first` ends with the key.
   * @throws {RangeError} when `head` has no placeholder, or too far behind (see `maxBytesBeforeKey`)
   */
  inject(head: string, placeholder: string, pieces: readonly Piece[]): { first: Buffer; rest: Piece[] } {
    const at = head.indexOf(placeholder);
    const scratch = this.#scratch;
    if (at === -1 || at + this.length > scratch.length) throw new RangeError('no place for the key in the request head');
    const after = head.slice(at + placeholder.length);
    scratch.write(head.slice(0, at), 'latin1');
    scratch.set(this.#key, at);
    let end = at + this.length;
    const rest: Piece[] = [];
    for (const piece of [after, ...pieces]) {
      if (rest.length > 0 || end + piece.length > scratch.length) rest.push(piece);
      else if (typeof piece === 'string') end += scratch.write(piece, end, 'latin1');
      else {
        scratch.set(piece, end);
        end += piece.length;
      }
    }
    return { first: scratch.subarray(0, end), rest };
  }
}

/** A part of a request as undici writes it: text in latin1, or bytes. */
export type Piece = string | Uint8Array;

/** Reads up to the first line feed, the end, or the end of `area`. */
function readFirstLine(fd: number, area: Buffer): Buffer {
  if (isatty(fd)) throw noKey('stdin is a terminal');
  let filled = 0;
  let lineEnd = -1;
  while (lineEnd === -1 && filled < area.length) {
    const count = readSome(fd, area.subarray(filled));
    if (count === 0) break;
    filled += count;
    lineEnd = area.subarray(0, filled).indexOf(lineFeed);
  }
  const read = area.subarray(0, filled);
  const line = lineEnd === -1 ? read : read.subarray(0, lineEnd);
  const after = read.subarray(line.length);
  if (after.some((byte) => byte !== lineFeed && byte !== carriageReturn)) {
    throw new Failure('more than one line came on stdin', { hint: 'pipe the key alone' });
  }
  let length = line.length;
  while (length > 0 && line[length - 1] === carriageReturn) length--;
  const key = line.subarray(0, length);
  if (key.length === 0) throw noKey(filled === 0 ? 'nothing came on stdin' : 'the first line on stdin is empty');
  if (key.length > maxKeyBytes) throw new Failure(`the key is longer than ${maxKeyBytes} bytes`, { hint: 'pipe the key alone' });
  if (!isB64Token(key)) {
    throw new Failure('the key has characters that no bearer token has', {
      hint: 'a key has letters, digits and - . _ ~ + /, then perhaps = (RFC 6750); look for quotes, spaces or a BOM',
    });
  }
  return key;
}

function noKey(what: string): Failure {
  return new Failure(`no key: ${what}`, { hint: pipeHint });
}

/** read(2) straight into `area`; waits where stdin is non-blocking. Returns 0 at the end. */
function readSome(fd: number, area: Buffer): number {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      return readSync(fd, area);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN') throw new Failure(`cannot read the key from stdin: ${reason(error)}`, { hint: pipeHint });
      Atomics.wait(pause, 0, 0, stdinPollMs);
    }
  }
}

/** RFC 6750 section 2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`. */
function isB64Token(key: Buffer): boolean {
  let body = key.length;
  while (body > 0 && key[body - 1] === 0x3d) body--;
  return body > 0 && key.subarray(0, body).every(isB64TokenByte);
}

function isB64TokenByte(byte: number): boolean {
  const isDigit = byte >= 0x30 && byte <= 0x39;
  const isLetter = (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);
  return isDigit || isLetter || '-._~+/'.includes(String.fromCharCode(byte));
}
