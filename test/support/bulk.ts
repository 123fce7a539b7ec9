import { createHash } from 'node:crypto';
import type { Writable } from 'node:stream';

/** Bytes whose sequence repeats at no power of two, so that a piece lost, doubled or moved changes the hash. */
const pattern = Buffer.from(Uint8Array.from({ length: 65_521 }, (_, at) => (at * 31 + (at >> 8) * 17) & 0xff));

/** sha256, in hex, of what `writeBulk` writes. */
export function bulkHash(length: number): string {
  const hash = createHash('sha256');
  for (const piece of bulk(length)) hash.update(piece);
  return hash.digest('hex');
}

/**
 * Writes `length` bytes as fast as `stream` takes them; resolves with how many it took, which are less if it breaks or `isOver` says so.
 * `frame` puts each piece into its envelope (a chunk of the chunked coding).
 */
export async function writeBulk(stream: Writable, length: number, frame: (piece: Buffer) => Uint8Array = (piece) => piece): Promise<number> {
  let written = 0;
  for (const piece of bulk(length)) {
    if (stream.destroyed || !stream.writable) return written;
    written += piece.length;
    if (!stream.write(frame(piece))) await drainOrClose(stream);
  }
  return written;
}

function* bulk(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= pattern.length) yield left < pattern.length ? pattern.subarray(0, left) : pattern;
}

function drainOrClose(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.on('drain', done).on('close', done);
  });
}
