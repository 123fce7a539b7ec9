import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { Failure, reason } from '../../run/failure.ts';
import { maxLineBytes } from './audit-chain.ts';
import { AuditFile, type FileLine } from './audit-file.ts';

/** What stands for standard input on the command line. */
export const standardInput = '-';

const stdinDescriptor = 0;
const newlineByte = 0x0a;

/**
 * The lines of an audit log, oldest first, from wherever it is kept: a file, `-` for standard input, or either compressed by
 * gzip (RFC 1952, told by its first two bytes). Memory is bounded. A line's bytes are good until the next is asked for.
 *
 * @throws {Failure} when it cannot be read to its end
 */
export async function* linesFrom(path: string): AsyncGenerator<FileLine, void, undefined> {
  if (path !== standardInput) {
    const file = new AuditFile(path);
    try {
      if (!isGzip(file.beginning())) {
        yield* file.lines();
        return;
      }
    } finally {
      file.close();
    }
  }
  const name = path === standardInput ? 'standard input' : path;
  const source: Readable = path === standardInput ? createReadStream('', { fd: stdinDescriptor, autoClose: false }) : createReadStream(path);
  try {
    yield* split(unzipped(source));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(`cannot read ${name}: ${code?.startsWith('Z_') === true ? 'it is not a whole gzip file' : reason(error)}`, { hint: 'audit wants the file of --audit-log' });
  } finally {
    source.destroy();
  }
}

async function* unzipped(source: Readable): AsyncGenerator<Buffer, void, undefined> {
  const pieces = source[Symbol.asyncIterator]() as AsyncIterableIterator<Buffer>;
  let start: Buffer = Buffer.alloc(0);
  while (start.length < 2) {
    const { value, done } = await pieces.next();
    if (done === true) break;
    start = Buffer.concat([start, value]);
  }
  async function* all(): AsyncGenerator<Buffer, void, undefined> {
    yield start;
    yield* pieces;
  }
  if (!isGzip(start)) return yield* all();
  const { Readable: Source, pipeline } = await import('node:stream');
  const gunzip = createGunzip();
  pipeline(Source.from(all()), gunzip, () => {}); // an error reaches the reader below
  yield* gunzip as AsyncIterable<Buffer>;
}

async function* split(pieces: AsyncIterable<Buffer>): AsyncGenerator<FileLine, void, undefined> {
  let kept: Buffer = Buffer.alloc(0);
  let isTooLong = false;
  const none = Buffer.alloc(0);
  for await (const piece of pieces) {
    let start = 0;
    for (let end = piece.indexOf(newlineByte); end !== -1; end = piece.indexOf(newlineByte, start)) {
      const bytes = kept.length === 0 ? piece.subarray(start, end) : Buffer.concat([kept, piece.subarray(start, end)]);
      const exceeds = isTooLong || bytes.length > maxLineBytes;
      yield { bytes: exceeds ? none : bytes, isTooLong: exceeds, isEnded: true };
      kept = none;
      isTooLong = false;
      start = end + 1;
    }
    kept = Buffer.concat([kept, piece.subarray(start)]);
    if (kept.length > maxLineBytes) {
      isTooLong = true;
      kept = none;
    }
  }
  if (kept.length > 0 || isTooLong) yield { bytes: kept, isTooLong, isEnded: false };
}

/** Told by the first two bytes (RFC 1952 section 2.3.1). */
export function isGzip(bytes: Buffer): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}
