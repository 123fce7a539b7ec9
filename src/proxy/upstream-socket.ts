import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { requestBegins } from '../key/injection.ts';

/** How long we go on reading from an upstream that no longer takes our bytes: its answer may be on the way. */
const earlyResponseTimeoutMs = 500;

/** How much of an upload may wait in a socket before the client has to, in bytes: some of the pieces in which node reads. */
const maxUnsentBytes = 256 * 1024;

/** Longest beginning of an answer that is kept back until it is whole, in bytes. */
const maxHeldBytes = 16 * 1024;

const nothing = Buffer.alloc(0);
const beginning = Buffer.from('HTTP/1.');
const headEnd = '\r\n\r\n';
const lineFeed = 0x0a;
const [digitZero, digitOne, digitTwo] = [0x30, 0x31, 0x32];

/** Offset of the status code in a status line: `HTTP/1.1 200 OK`. */
const statusAt = 9;

/**
 * Mends what node and undici would hide of an upstream's answer. To be called before undici has the socket.
 *
 * It has to know when a request begins. Only `key/injection.ts` sees that, when it writes a head; what it wraps is a
 * connector that others made, so it says so by an event on the socket (`requestBegins`).
 */
export function applySocketWorkarounds(socket: Socket): void {
  nameResets(socket);
  readEarlyResponse(socket);
  raiseWriteWatermark(socket);
  normalizeResponseHeads(socket);
}

/**
 * For undici an answer without a length that ends in a reset has ended well, and a reset of an idle connection is the
 * fault of the request that waits for it. It tells a reset by its code; with its own it does right by both.
 */
function nameResets(socket: Socket): void {
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') error.code = 'UND_ERR_SOCKET';
  });
}

/**
 * A socket that asks for a pause says only in a later turn that it can go on, TLS always does. An upstream that is fast
 * may have answered by then, and undici gives a connection up whose request has not ended. So a pause is asked for late,
 * and most uploads end before one.
 */
function raiseWriteWatermark(socket: Socket): void {
  const write = socket.write.bind(socket) as (...piece: unknown[]) => boolean;
  socket.write = (...piece: unknown[]): boolean => write(...piece) || socket.writableLength <= maxUnsentBytes;
}

type WriteCallback = (error?: Error | null) => void;

/**
 * An upstream that has seen enough of an upload answers (413, say) and closes. Our next write fails, and node would
 * destroy the socket with the answer still unread in it. So the failure waits until there is nothing left to read.
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
 * Gives undici each answer from a whole status line on: it keeps only the last piece of a reason phrase that came in
 * several. And 100 (Continue) as 102, another interim answer: undici takes the first for an offence, though any
 * request may be answered with it (RFC 9110 section 15.2.1).
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

/** Whether more bytes are needed: of a status line, or of an interim answer's head. Not of what cannot become either. */
function isUndecided(bytes: Buffer): boolean {
  const known = Math.min(bytes.length, beginning.length);
  if (bytes.length >= maxHeldBytes || bytes.compare(beginning, 0, known, 0, known) !== 0) return false;
  return bytes[statusAt] === digitOne || !bytes.includes(lineFeed);
}
