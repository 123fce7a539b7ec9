import { readSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isatty } from 'node:tty';
import { Failure, reason } from '../run/failure.ts';

/** Longest key, in bytes. JSON Web Tokens with many claims reach 4 KiB. */
export const maxKeyBytes = 8 * 1024;

/** Room to read a line into: the longest key, its line ending, and enough more to tell that a line is too long. */
export const lineAreaBytes = 12 * 1024;

/** Ends a line of stdin. */
export const lineFeed = 0x0a;

/** Wait between two reads of a stdin that is non-blocking and has no data yet. */
const stdinPollMs = 5;

const root = join(import.meta.dirname, '../..');
/** The command as it can be called: by its name where npm has installed it, by its launcher in a checkout. */
const command = basename(dirname(root)) === 'node_modules' ? 'responses-api-proxy' : join(root, 'src/launcher.sh');
const pipeHint = `pipe it in: printenv OPENAI_API_KEY | env -u OPENAI_API_KEY ${command}; is the variable exported?`;

const carriageReturn = 0x0d;
const quotes = [0x22, 0x27, 0x60]; // " ' `
const equalsSign = 0x3d;

export const tooLong = `is longer than ${maxKeyBytes} bytes`;

/** What a line is in place of a key: a bit of the verdict, in words that quote nothing of it, and what to do. The first that fits is told. */
const mistakes = [
  [1, 'is in quotes', 'pipe it without them'],
  [2, 'is a line NAME=value', 'pipe the value alone'],
  [4, 'has characters that no key has', 'a key has visible ASCII characters; look for spaces, a byte order mark, or UTF-16, which Windows pipes'],
] as const;

/** What a line without a key is. */
export type KeyProblem = 'is empty' | typeof tooLong | (typeof mistakes)[number][1];

/**
 * Checks one line. Carriage returns at its end are not part of the key.
 *
 * @param line without its line feed
 * @returns the key, as a view of the line
 */
export function parseKeyLine(line: Buffer): { readonly key: Buffer } | { readonly problem: KeyProblem } {
  let length = line.length;
  while (length > 0 && line[length - 1] === carriageReturn) length--;
  const key = line.subarray(0, length);
  if (length === 0) return { problem: 'is empty' };
  if (length > maxKeyBytes) return { problem: tooLong };
  const verdict = verdictOn(key);
  const mistake = mistakes.find(([bit]) => (verdict & bit) !== 0);
  return mistake === undefined ? { key } : { problem: mistake[1] };
}

/**
 * Reads up to the first line feed, the end of input, or the end of `area`, and waits for it.
 *
 * @param area locked memory of `lineAreaBytes`
 * @param mayMoreFollow further lines are allowed
 * @returns the key, and what was read behind its line; both are views of `area`
 * @throws {Failure} when there is no key, or something that is not one; the message quotes nothing of it
 */
export function readFirstLine(fd: number, area: Buffer, mayMoreFollow: boolean): { key: Buffer; rest: Buffer } {
  if (isatty(fd)) throw noKey('stdin is a terminal');
  let filled = 0;
  let lineEnd = -1;
  while (lineEnd === -1 && filled < area.length) {
    const count = readSome(fd, area.subarray(filled));
    if (count === 0) break;
    lineEnd = area.subarray(0, filled + count).indexOf(lineFeed, filled);
    filled += count;
  }
  const line = area.subarray(0, lineEnd === -1 ? filled : lineEnd);
  const rest = area.subarray(lineEnd === -1 ? filled : lineEnd + 1, filled);
  const parsed = parseKeyLine(line);
  if ('problem' in parsed) {
    const { problem } = parsed;
    if (problem === 'is empty') throw noKey(filled === 0 ? 'nothing came on stdin' : 'the first line on stdin is empty');
    const [, , hint] = mistakes.find(([, mistake]) => mistake === problem) ?? [0, '', 'pipe the key alone'];
    throw new Failure(`the key ${problem}`, { hint });
  }
  if (!mayMoreFollow && rest.some((byte) => byte !== lineFeed && byte !== carriageReturn)) {
    throw new Failure('more than one line came on stdin', { hint: 'pipe the key alone; --renewable-key takes a new key with each line' });
  }
  return { key: parsed.key, rest };
}

function noKey(what: string): Failure {
  return new Failure(`no key: ${what}`, { hint: pipeHint });
}

/** read(2) straight into `area`; waits where stdin is non-blocking. Returns 0 at the end of input. */
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

/** Each has a 1 for the bytes of its class. A table takes as long for one byte as for another. */
const [isVisible, isCapital, isInName] = [new Uint8Array(256), new Uint8Array(256), new Uint8Array(256)];
isVisible.fill(1, 0x21, 0x7f);
isCapital.fill(1, 0x41, 0x5b);
for (const byte of Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_')) isInName[byte] = 1;

/**
 * Keys have many forms (RFC 6750's, `id:secret`, `LLM|id|secret`), all in visible ASCII. Without a branch on a byte of the key:
 * every user can read how much CPU time a process has used.
 *
 * @param key not empty
 * @returns the bits of all `mistakes` that fit; 0 for a key
 */
function verdictOn(key: Buffer): number {
  let isForeign = 0;
  let isName = 0;
  let isAssignment = 0;
  for (let at = 0; at < key.length; at++) {
    isForeign |= 1 - of(isVisible, key[at]);
    // Base32 may end in equals signs, so that one is followed by another or by nothing.
    isAssignment |= isName & same(key[at], equalsSign) & (1 - same(key[at + 1] ?? equalsSign, equalsSign));
    isName = at === 0 ? of(isCapital, key[at]) : isName & of(isInName, key[at]);
  }
  let isQuoted = 0;
  for (const quote of quotes) isQuoted |= same(key[0], quote) & same(key[key.length - 1], quote);
  return isQuoted | (isAssignment << 1) | (isForeign << 2);
}

function of(table: Uint8Array, byte = 0): number {
  return table[byte] as number;
}

/** 1 where two bytes are equal, else 0: only zero less one has the sign bit. */
function same(byte = 0, other = 0): number {
  return ((byte ^ other) - 1) >>> 31;
}
