import { CodedError } from '../run/failure.ts';

/** Longest beginning of an answer that is kept back until it is whole, in bytes. */
const maxHeldBytes = 16 * 1024;

const nothing = Buffer.alloc(0);
const processing = Buffer.from('HTTP/1.1 102 Processing\r\n\r\n');
const beginning = Buffer.from('HTTP/1.');
const headEnd = '\r\n\r\n';
const hasBareEnd = /\r[^\n]|[^\r]\n/;
const [lineFeed, carriageReturn, digitOne] = [0x0a, 0x0d, 0x31];

/** Offset of the status code in a status line: `HTTP/1.1 200 OK`. */
const statusAt = 9;

/**
 * Gives undici the answer to one request from a whole status line on, and a bare 102 for the interim answers before it: each
 * starts its patience anew, and nobody else hears of them. Of what they say undici takes a 100 for an offence, though every
 * request may be answered with one (RFC 9110 section 15.2.1), and `Connection: close` for the end of all answers.
 * It also keeps only the last piece of a split reason phrase, and lets a bare CR in the status line through (RFC 9112 section 2.2).
 */
export class ResponseHeads {
  #hasBegun = false;
  #held: Buffer = nothing;

  /**
   * @param chunk what came next
   * @returns what undici may have by now, empty for nothing; an error where the status line has a CR that no LF follows:
   *          llhttp would take the fields behind it for a part of the reason phrase
   */
  take(chunk: Buffer): Buffer | CodedError {
    if (this.#hasBegun) return chunk;
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const rest = bytes.subarray(interimAnswers(bytes));
    this.#hasBegun = !isUndecided(rest);
    this.#held = this.#hasBegun ? nothing : rest;
    if (!this.#hasBegun) return rest.length < bytes.length ? processing : nothing;
    const carriageReturnAt = rest.indexOf(carriageReturn);
    if (carriageReturnAt === -1 || carriageReturnAt >= rest.indexOf(lineFeed) - 1) return rest;
    return new CodedError('UPSTREAM_PROTOCOL', 'the status line has a bare CR');
  }
}

/** Length of the whole interim answers at the start of `bytes`. One with a bare LF may end before we think: undici refuses it. */
function interimAnswers(bytes: Buffer): number {
  let length = 0;
  while (isInterim(bytes, length) && bytes.indexOf(beginning, length) === length) {
    const end = bytes.indexOf(headEnd, length);
    if (end === -1 || hasBareEnd.test(bytes.toString('latin1', length, end))) break;
    length = end + headEnd.length;
  }
  return length;
}

/** Not a 101 (Switching Protocols): HTTP ends with that. */
function isInterim(bytes: Buffer, at: number): boolean {
  return bytes[at + statusAt] === digitOne && bytes.toString('latin1', at + statusAt, at + statusAt + 3) !== '101';
}

/** Whether more bytes are needed: of a status line, or of an interim answer's head. Not of what cannot become either. */
function isUndecided(bytes: Buffer): boolean {
  const known = Math.min(bytes.length, beginning.length);
  if (bytes.length >= maxHeldBytes || bytes.compare(beginning, 0, known, 0, known) !== 0) return false;
  return !bytes.includes(isInterim(bytes, 0) ? headEnd : lineFeed);
}
