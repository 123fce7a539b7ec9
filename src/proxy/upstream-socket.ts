/**
 * What is overridden on an upstream socket before undici gets it, here and in `key/injection.ts`.
 *
 * | override | why | source | fails without it |
 * | --- | --- | --- | --- |
 * | 'error' | undici takes ECONNRESET for the end of an answer without a length, and on an idle connection for the next request's fault | nodejs/undici#784, #2825 | forwarding/upstream-cut |
 * | 'end' (`upstream-pool.ts`) | undici trips an assertion, or cuts a whole answer, when an upstream closes behind an answer that a slow client has paused | nodejs/undici#5360, fixed in undici 8 only | forwarding/close-behind-answer |
 * | `_write`, `_writev` | a failed write would destroy the socket with an early answer still unread in it | nodejs/node#54366, RFC 9112 section 9.6 | forwarding/early-answer |
 * | `write` (below) | undici gives a connection up whose upload waits for 'drain' when the answer is complete | client-h1.js, `kWriting` | forwarding/early-answer |
 * | `read` | undici keeps the last piece of a split reason phrase, takes a 100 for an offence, and lets a bare CR through | RFC 9110 section 15.2.1, RFC 9112 section 2.2 | forwarding/interim-answers, garbage-upstream |
 * | `cork`, `uncork`, `write` (`key/injection.ts`) | the head must leave in one write from locked memory, never by writev | `src/key/README.md` | custody/memory |
 * | `push` (`key/tls-readiness.ts`) | whether the head can leave at once shows in which bytes have arrived | `src/key/README.md` | custody/split-ticket |
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { requestBegins } from '../key/injection.ts';
import { isTlsAlert } from './upstream-error.ts';

/** How long we keep reading from an upstream that no longer takes our bytes: its answer may be on the way. */
const earlyResponseTimeoutMs = 500;

/** How much of an upload may wait in a socket before the client has to, in bytes: some of the pieces in which node reads. */
const maxUnsentBytes = 256 * 1024;

/** Longest beginning of an answer that is kept back until it is whole, in bytes. */
const maxHeldBytes = 16 * 1024;

const nothing = Buffer.alloc(0);
const beginning = Buffer.from('HTTP/1.');
const headEnd = '\r\n\r\n';
const [lineFeed, carriageReturn] = [0x0a, 0x0d];
const [digitZero, digitOne, digitTwo] = [0x30, 0x31, 0x32];

/** Offset of the status code in a status line: `HTTP/1.1 200 OK`. */
const statusAt = 9;

/**
 * To be called before undici has the socket.
 *
 * Response heads are normalized from the beginning of a request on. Only `key/injection.ts` sees that, when it writes a
 * head; it emits `requestBegins` on the socket.
 */
export function applySocketWorkarounds(socket: Socket): void {
  nameResets(socket);
  readEarlyResponse(socket);
  raiseWriteWatermark(socket);
  normalizeResponseHeads(socket);
}

/** undici tells a reset by its code; with the code of its own errors it handles both cases right. */
function nameResets(socket: Socket): void {
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') error.code = 'UND_ERR_SOCKET';
    // After a TLS alert node goes on to 'end', and undici would report "other side closed" in place of the alert.
    else if (isTlsAlert(error)) socket.destroy();
  });
}

/**
 * A socket that asks for a pause emits 'drain' in a later turn at the earliest, TLS always. A fast upstream may have
 * answered by then. So the pause is asked for late, and most uploads end before one.
 */
function raiseWriteWatermark(socket: Socket): void {
  const write = socket.write.bind(socket) as (...piece: unknown[]) => boolean;
  socket.write = (...piece: unknown[]): boolean => write(...piece) || socket.writableLength <= maxUnsentBytes;
}

type WriteCallback = (error?: Error | null) => void;

/**
 * An upstream may answer an upload early (413, say) and close. Our next write then fails; the failure is held back until
 * there is nothing left to read.
 */
function readEarlyResponse(socket: Socket): void {
  const holdingBack = (done: WriteCallback): WriteCallback => (error) => {
    if (error === undefined || error === null) return done(error);
    const fail = (): void => {
      clearTimeout(timer);
      for (const event of ['end', 'close', 'error']) socket.off(event, fail);
      done(error);
    };
    const timer = setTimeout(fail, earlyResponseTimeoutMs);
    for (const event of ['end', 'close', 'error']) socket.on(event, fail);
  };
  const write = socket._write.bind(socket);
  socket._write = (chunk, encoding, done) => write(chunk, encoding, holdingBack(done));
  const writev = socket._writev?.bind(socket);
  if (writev !== undefined) socket._writev = (chunks, done) => writev(chunks, holdingBack(done));
}

/**
 * Gives undici each answer from a whole status line on, and 100 (Continue) as 102, another interim answer: every request
 * may be answered with a 100.
 */
function normalizeResponseHeads(socket: Socket): void {
  const read = socket.read.bind(socket);
  let hasBegun = true;
  let held: Buffer = nothing;

  // Node's types know only the events of its own that a socket has.
  (socket as EventEmitter).on(requestBegins, () => {
    hasBegun = false;
    held = nothing;
  });
  socket.read = (size?: number): Buffer | null => {
    const chunk = read(size) as Buffer | null;
    if (chunk === null || hasBegun) return chunk;
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const interim = interimAnswers(bytes);
    const rest = bytes.subarray(interim);
    hasBegun = !isUndecided(rest);
    if (hasBegun && hasBareReturn(rest)) {
      socket.destroy(new StatusLineError('the status line has a bare CR'));
      return null;
    }
    if (hasBegun) return bytes;
    held = rest;
    return interim === 0 ? null : bytes.subarray(0, interim);
  };
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

/** Nothing of the response can be trusted. */
class StatusLineError extends Error {
  readonly code = 'UPSTREAM_PROTOCOL';
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
