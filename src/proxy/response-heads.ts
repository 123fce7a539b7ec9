import { CodedError } from '../run/failure.ts';

/** Longest beginning of an answer that is kept back until it is whole, in bytes. */
const maxHeldBytes = 16 * 1024;

const nothing = Buffer.alloc(0);
const beginning = Buffer.from('HTTP/1.');
const headEnd = '\r\n\r\n';
const [lineFeed, carriageReturn, digitZero, digitOne, digitTwo] = [0x0a, 0x0d, 0x30, 0x31, 0x32];

/** Offset of the status code in a status line: `HTTP/1.1 200 OK`. */
const statusAt = 9;

/**
 * Gives undici the answer to one request from a whole status line on, and 100 (Continue) as 102, another interim answer.
 * Every request may be answered with a 100 (RFC 9110 section 15.2.1), which undici takes for an offence. It also keeps only
 * the last piece of a split reason phrase, and lets a bare CR in the status line through (RFC 9112 section 2.2).
 */
export class ResponseHeads {
  #hasBegun = false;
  #held: Buffer = nothing;

  /**
   * @param chunk what came next
   * @returns what undici may have of it by now, empty for nothing; an error where the status line has a CR that no LF follows:
   *          llhttp would take the fields behind it for a part of the reason phrase
   */
  take(chunk: Buffer): Buffer | CodedError {
    if (this.#hasBegun) return chunk;
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const interim = interimAnswers(bytes);
    const rest = bytes.subarray(interim);
    this.#hasBegun = !isUndecided(rest);
    this.#held = this.#hasBegun ? nothing : rest;
    if (!this.#hasBegun) return bytes.subarray(0, interim);
    const carriageReturnAt = rest.indexOf(carriageReturn);
    if (carriageReturnAt === -1 || carriageReturnAt >= rest.indexOf(lineFeed) - 1) return bytes;
    return new CodedError('UPSTREAM_PROTOCOL', 'the status line has a bare CR');
  }
}

/** Length of the whole interim answers at the start of `bytes`. A 100 among them becomes a 102. */
function interimAnswers(bytes: Buffer): number {
  let length = 0;
  while (bytes[length + statusAt] === digitOne && bytes.indexOf(beginning, length) === length) {
    const end = bytes.indexOf(headEnd, length);
    if (end === -1) break;
    const [second, third] = [length + statusAt + 1, length + statusAt + 2];
    if (bytes[second] === digitZero && bytes[third] === digitZero) bytes[third] = digitTwo;
    length = end + headEnd.length;
  }
  return length;
}

/** Whether more bytes are needed: of a status line, or of an interim answer's head. Not of what cannot become either. */
function isUndecided(bytes: Buffer): boolean {
  const known = Math.min(bytes.length, beginning.length);
  if (bytes.length >= maxHeldBytes || bytes.compare(beginning, 0, known, 0, known) !== 0) return false;
  return bytes[statusAt] === digitOne || !bytes.includes(lineFeed);
}
