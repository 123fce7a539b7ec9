/** Longest beginning of an answer that is kept back until it is whole, in bytes. */
const maxHeldBytes = 16 * 1024;

const nothing = Buffer.alloc(0);
const beginning = Buffer.from('HTTP/1.');
const headEnd = '\r\n\r\n';
const [lineFeed, carriageReturn] = [0x0a, 0x0d];
const [digitZero, digitOne, digitTwo] = [0x30, 0x31, 0x32];

/** Offset of the status code in a status line: `HTTP/1.1 200 OK`. */
const statusAt = 9;

/** Nothing of the response can be trusted. */
class StatusLineError extends Error {
  readonly code = 'UPSTREAM_PROTOCOL';
}

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
   * @returns what undici may have of it by now, empty for nothing; an error where the status line has a bare CR
   */
  take(chunk: Buffer): Buffer | StatusLineError {
    if (this.#hasBegun) return chunk;
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const interim = interimAnswers(bytes);
    const rest = bytes.subarray(interim);
    this.#hasBegun = !isUndecided(rest);
    if (this.#hasBegun && hasBareReturn(rest)) return new StatusLineError('the status line has a bare CR');
    this.#held = this.#hasBegun ? nothing : rest;
    return this.#hasBegun ? bytes : bytes.subarray(0, interim);
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

/** Whether the first line has a CR that no LF follows: llhttp would take the fields behind it for a part of the reason phrase. */
function hasBareReturn(bytes: Buffer): boolean {
  const end = bytes.indexOf(lineFeed);
  const first = bytes.indexOf(carriageReturn);
  return first !== -1 && first < end - 1;
}

/** Whether more bytes are needed: of a status line, or of an interim answer's head. Not of what cannot become either. */
function isUndecided(bytes: Buffer): boolean {
  const known = Math.min(bytes.length, beginning.length);
  if (bytes.length >= maxHeldBytes || bytes.compare(beginning, 0, known, 0, known) !== 0) return false;
  return bytes[statusAt] === digitOne || !bytes.includes(lineFeed);
}
