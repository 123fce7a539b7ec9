/**
 * How the lines of an audit log hang together. Each line is a JSON object whose last two members are
 *
 *   "prev"  the hash of the record before it (64 zeros in the first line of a new log)
 *   "hash"  the SHA-256, in hexadecimal, of the line's own bytes up to, but without, `,"hash":"`
 *
 * so that a line that is changed, removed, added or moved breaks the chain there, unless all hashes after it are computed
 * anew. To check it, in ten lines of Python:
 *
 *   import hashlib, json, sys
 *   previous = None
 *   for number, line in enumerate(open(sys.argv[1], 'rb'), 1):
 *       head, _, tail = line.rpartition(b',"hash":"')
 *       own = hashlib.sha256(head).hexdigest()
 *       if tail != own.encode() + b'"}\n': sys.exit(f'line {number} is not what was written')
 *       if previous not in (None, json.loads(line)['prev']): sys.exit(f'line {number} does not follow the one before')
 *       previous = own
 *   print('ends with', previous)
 *
 * A daemon that is killed, or finds its disk full, in the middle of a write leaves a torn line. The next write ends it
 * with `tornMark`, and follows it up with a record of kind `recovered`, which has the hash of the torn bytes. (These ten
 * lines stop there; `responses-api-proxy audit verify` does not.)
 */
import { hash as digest } from 'node:crypto';

/** What the first record of all has in the place of a hash of the one before. */
export const noHash = '0'.repeat(64);

/** Longest line, in bytes; a record with everything in it stays below 1,500. */
export const maxLineBytes = 4096;

/** Ends a line whose write did not finish. No change of a single byte makes one out of a record's end. */
export const tornMark = '~torn';

const hashLength = noHash.length;
const [beforePrev, beforeHash, ending] = [',"prev":"', '","hash":"', '"}'];
const hashAt = ending.length + hashLength;
const prevAt = hashAt + beforeHash.length + hashLength;

/** What a line of a log is. */
export type Line =
  | { readonly kind: 'record'; readonly prev: string; readonly hash: string; /** The hash is that of the line's bytes. */ readonly isWhole: boolean }
  | { readonly kind: 'torn' }
  | { readonly kind: 'other' };

/** @param text a JSON object in ASCII, with at least one member */
export function seal(text: string, prev: string): { line: string; hash: string } {
  const head = `${text.slice(0, -1)}${beforePrev}${prev}"`;
  const hash = digest('sha256', head);
  return { line: `${head},"hash":"${hash}"}\n`, hash };
}

/** @param bytes of a line, without its newline */
export function lineOf(bytes: Buffer): Line {
  const end = bytes.length;
  if (bytes.toString('latin1', end - tornMark.length) === tornMark) return { kind: 'torn' };
  const match = recordEnd.exec(bytes.toString('latin1', Math.max(0, end - prevAt - beforePrev.length)));
  const [, prev, hash] = match ?? [];
  if (prev === undefined || hash === undefined) return { kind: 'other' };
  return { kind: 'record', prev, hash, isWhole: digest('sha256', bytes.subarray(0, end - hashAt - beforeHash.length + 1)) === hash };
}

const recordEnd = new RegExp(`^${beforePrev}([0-9a-f]{64})${beforeHash}([0-9a-f]{64})${ending}$`);

/**
 * Whether what follows the last newline can be the beginning of a record, all of which is not written yet. One byte
 * more than a record is none: that was its newline.
 */
export function isTornEnd(bytes: Buffer): boolean {
  const text = bytes.toString('latin1');
  return text.length <= maxLineBytes && !/"hash":"[0-9a-f]{64}"\}./s.test(text);
}
