import { closeSync, constants, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import { Failure, reason } from '../../run/failure.ts';
import { maxLineBytes } from './audit-chain.ts';

/** What stands for standard input on the command line. */
export const standardInput = '-';

const stdinDescriptor = 0;
const blockBytes = 1024 * 1024;

/** The first block from a file's end, where often a few lines are all that is wanted; the next ones are larger. */
const firstBlockBackBytes = 16 * 1024;

/** Longer than any write of a line takes. */
const writeMs = 50;

const newlineByte = 0x0a;
const nothing = Buffer.alloc(0);

/** A line of a log, without its newline. */
export interface FileLine {
  readonly bytes: Buffer;
  /** It is longer than any line of an audit log. Its bytes are not given. */
  readonly isTooLong: boolean;
  /** Nothing but the file's last line has no newline. */
  readonly isEnded: boolean;
}

/** @throws {Failure} when a file cannot be opened, or is no regular file */
export function openToRead(path: string): number {
  let why: string;
  try {
    // O_NONBLOCK, because opening a FIFO would wait for its writer.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    if (fstatSync(fd).isFile()) return fd;
    closeSync(fd);
    why = 'it is not a regular file';
  } catch (error) {
    why = reason(error);
  }
  throw unreadable(path, why);
}

/** So many bytes of a file; fewer where it ends before. */
export function readAt(fd: number, at: number, length: number): Buffer {
  const block = Buffer.allocUnsafe(length);
  let read = 0;
  for (let count = -1; read < length && count !== 0; read += count) count = readSync(fd, block, read, length - read, at + read);
  return block.subarray(0, read);
}

/** All lines of an open file, newest first. It reads no more of the file than it is asked for, give or take a block. */
export function* linesBack(fd: number): Generator<FileLine, void, undefined> {
  let kept: Buffer = nothing; // the end of a line whose beginning is further ahead
  let [isTooLong, isEnded] = [false, false];
  let length = firstBlockBackBytes;
  for (let at = fstatSync(fd).size; at > 0; length = blockBytes) {
    const wanted = Math.min(length, at);
    at -= wanted;
    const read = readAt(fd, at, wanted);
    if (read.length < wanted) return; // cut since
    let block = Buffer.concat([read, kept]);
    for (let newline = block.lastIndexOf(newlineByte); newline !== -1; newline = block.lastIndexOf(newlineByte)) {
      const bytes = block.subarray(newline + 1);
      if (isEnded || bytes.length > 0 || isTooLong) yield line(bytes, isTooLong, isEnded);
      [isTooLong, isEnded] = [false, true];
      block = block.subarray(0, newline);
    }
    isTooLong ||= block.length > maxLineBytes;
    kept = isTooLong ? nothing : block;
  }
  if (isEnded || kept.length > 0 || isTooLong) yield line(kept, isTooLong, isEnded);
}

/**
 * The lines of an audit log, oldest first, from wherever it is kept: a file, `-` for standard input, or either compressed by
 * gzip (RFC 1952, told by its first two bytes). Memory is bounded. A log may be read while it is written.
 *
 * @throws {Failure} when it cannot be read to its end
 */
export async function* linesFrom(path: string): AsyncGenerator<FileLine, void, undefined> {
  const isStdin = path === standardInput;
  const fd = isStdin ? stdinDescriptor : openToRead(path);
  try {
    yield* split(unzipped(isStdin ? createReadStream('', { fd, autoClose: false }) : blocks(fd)));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw unreadable(isStdin ? 'standard input' : path, code?.startsWith('Z_') === true ? 'it is not a whole gzip file' : reason(error));
  } finally {
    if (!isStdin) closeSync(fd);
  }
}

/** A file from its beginning. Where it does not end with a line, a daemon may be writing that. */
async function* blocks(fd: number): AsyncGenerator<Buffer, void, undefined> {
  let at = 0;
  for (let block = readAt(fd, at, blockBytes); block.length > 0; block = readAt(fd, at, blockBytes)) {
    at += block.length;
    yield block;
    if (block.length < blockBytes && block.at(-1) !== newlineByte) await setTimeout(writeMs);
  }
}

async function* unzipped(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  const pieces = source[Symbol.asyncIterator]() as AsyncIterableIterator<Buffer>;
  let start: Buffer = nothing;
  while (start.length < 2) {
    const { value, done } = await pieces.next();
    if (done === true) break;
    start = Buffer.concat([start, value]);
  }
  async function* all(): AsyncGenerator<Buffer, void, undefined> {
    yield start;
    yield* pieces;
  }
  yield* isGzip(start) ? (pipeline(all(), createGunzip(), () => {}) as AsyncIterable<Buffer>) : all(); // an error reaches the reader
}

async function* split(pieces: AsyncIterable<Buffer>): AsyncGenerator<FileLine, void, undefined> {
  let kept: Buffer = nothing; // the beginning of a line that goes on
  let isTooLong = false;
  for await (const piece of pieces) {
    const block = kept.length === 0 ? piece : Buffer.concat([kept, piece]);
    let start = 0;
    for (let end = block.indexOf(newlineByte, kept.length); end !== -1; end = block.indexOf(newlineByte, start)) {
      yield line(block.subarray(start, end), isTooLong, true);
      isTooLong = false;
      start = end + 1;
    }
    isTooLong ||= block.length - start > maxLineBytes;
    kept = isTooLong ? nothing : block.subarray(start);
  }
  if (kept.length > 0 || isTooLong) yield line(kept, isTooLong, false);
}

function line(bytes: Buffer, isCut: boolean, isEnded: boolean): FileLine {
  const isTooLong = isCut || bytes.length > maxLineBytes;
  return { bytes: isTooLong ? nothing : bytes, isTooLong, isEnded };
}

/** Told by the first two bytes (RFC 1952 section 2.3.1). */
export function isGzip(bytes: Buffer): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

function unreadable(name: string, why: string): Failure {
  return new Failure(`cannot read ${name}: ${why}`, { hint: 'audit wants the file of --audit-log' });
}
