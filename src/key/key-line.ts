import { readSync } from 'node:fs';
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

const pipeHint = 'pipe it in: printenv OPENAI_API_KEY | env -u OPENAI_API_KEY responses-api-proxy';

const carriageReturn = 0x0d;
const equalsSign = 0x3d;

export const tooLong = `is longer than ${maxKeyBytes} bytes`;

/** What a line without a key is, in words that quote nothing of it. */
export type KeyProblem = 'is empty' | typeof tooLong | 'has characters that no bearer token has';

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
  return isB64Token(key) ? { key } : { problem: 'has characters that no bearer token has' };
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
  if (!mayMoreFollow && rest.some((byte) => byte !== lineFeed && byte !== carriageReturn)) {
    throw new Failure('more than one line came on stdin', { hint: 'pipe the key alone; --renewable-key takes a new key with each line' });
  }
  const parsed = parseKeyLine(line);
  if ('key' in parsed) return { key: parsed.key, rest };
  if (parsed.problem === 'is empty') throw noKey(filled === 0 ? 'nothing came on stdin' : 'the first line on stdin is empty');
  const alphabet = 'a key has letters, digits and - . _ ~ + /, then perhaps = (RFC 6750); look for quotes, spaces or a BOM';
  throw new Failure(`the key ${parsed.problem}`, { hint: parsed.problem === tooLong ? 'pipe the key alone' : alphabet });
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

/** 1 for each byte that RFC 6750 allows before the equals signs. A table takes as long for one byte as for another. */
const isBody = new Uint8Array(256);
for (const char of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/') isBody[char.charCodeAt(0)] = 1;

const isPadding = new Uint8Array(256);
isPadding[equalsSign] = 1;

/**
 * RFC 6750 section 2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`. Without a branch on a byte of
 * the key: every user can read how much CPU time a process has used.
 */
function isB64Token(key: Buffer): boolean {
  let seenPadding = 0;
  let isWrong = 1 - (isBody[key[0] as number] as number);
  for (let at = 0; at < key.length; at++) {
    const byte = key[at] as number;
    const padding = isPadding[byte] as number;
    seenPadding |= padding;
    isWrong |= (1 - (isBody[byte] as number) - padding) | (seenPadding - padding);
  }
  return isWrong === 0;
}
