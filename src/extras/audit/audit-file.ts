import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { Failure, reason } from '../../run/failure.ts';
import { maxLineBytes } from './audit-chain.ts';

const blockBytes = 1024 * 1024;

/** The first block from a file's end, where often a few lines are all that is wanted; the next ones are larger. */
const firstBlockBackBytes = 16 * 1024;

const newlineByte = 0x0a;

/** A line of the file, without its newline. The bytes are good until the next line is asked for. */
export interface FileLine {
  readonly bytes: Buffer;
  /** It is longer than any line of an audit log. Its bytes are not given. */
  readonly isTooLong: boolean;
  /** Nothing but the file's last line has no newline. */
  readonly isEnded: boolean;
}

/** An audit log as it is read, which may be while it is written: what is added after it was opened does not show. */
export class AuditFile {
  readonly #fd: number;
  readonly #size: number;

  /** @throws {Failure} when it cannot be opened, or is no regular file */
  constructor(file: string) {
    const cannot = (why: string): Failure => new Failure(`cannot read ${file}: ${why}`, { hint: 'audit wants the file of --audit-log' });
    try {
      // O_NONBLOCK, because opening a FIFO would wait for its writer.
      this.#fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch (error) {
      throw cannot(reason(error));
    }
    const stats = fstatSync(this.#fd);
    this.#size = stats.size;
    if (stats.isFile()) return;
    closeSync(this.#fd);
    throw cannot('it is not a regular file');
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** The first two bytes, or fewer. They tell what kind of file it is. */
  beginning(): Buffer {
    return this.#read(0, Math.min(2, this.#size)) ?? Buffer.alloc(0);
  }

  /** All lines, oldest first. */
  *lines(): Generator<FileLine, void, undefined> {
    const block = Buffer.allocUnsafe(Math.min(blockBytes, this.#size));
    let kept = 0; // bytes at the block's beginning, of a line that goes on
    let isTooLong = false;
    for (let at = 0; at < this.#size; ) {
      const count = readSync(this.#fd, block, kept, Math.min(block.length - kept, this.#size - at), at);
      if (count === 0) break; // cut since
      at += count;
      const filled = kept + count;
      let start = 0;
      for (let end = block.indexOf(newlineByte, kept); end !== -1 && end < filled; end = block.indexOf(newlineByte, start)) {
        yield line(block.subarray(start, end), isTooLong, true);
        isTooLong = false;
        start = end + 1;
      }
      kept = filled - start;
      if (kept > maxLineBytes) {
        isTooLong = true;
        kept = 0;
      }
      block.copy(block, 0, filled - kept, filled);
    }
    if (kept > 0 || isTooLong) yield line(block.subarray(0, kept), isTooLong, false);
  }

  /** All lines, newest first. It reads no more of the file than it is asked for, give or take a block. */
  *linesBack(): Generator<FileLine, void, undefined> {
    let kept: Buffer = Buffer.alloc(0); // the end of a line whose beginning is further ahead
    let isTooLong = false;
    let isEnded = false;
    let length = firstBlockBackBytes;
    for (let at = this.#size; at > 0; ) {
      const wanted = Math.min(length, at);
      const block = this.#read(at - wanted, wanted);
      if (block === undefined) return; // cut since
      at -= wanted;
      length = blockBytes;
      let end = block.length;
      for (let newline = block.lastIndexOf(newlineByte); newline !== -1; newline = newline === 0 ? -1 : block.lastIndexOf(newlineByte, newline - 1)) {
        const rest = block.subarray(newline + 1, end);
        const bytes = kept.length === 0 ? rest : Buffer.concat([rest, kept]);
        if (isEnded || bytes.length > 0 || isTooLong) yield line(bytes, isTooLong, isEnded);
        kept = Buffer.alloc(0);
        isTooLong = false;
        isEnded = true;
        end = newline;
      }
      kept = Buffer.concat([block.subarray(0, end), kept]);
      if (kept.length > maxLineBytes) {
        isTooLong = true;
        kept = Buffer.alloc(0);
      }
    }
    if (isEnded || kept.length > 0 || isTooLong) yield line(kept, isTooLong, isEnded);
  }

  #read(at: number, length: number): Buffer | undefined {
    const block = Buffer.allocUnsafe(length);
    for (let read = 0; read < length; ) {
      const count = readSync(this.#fd, block, read, length - read, at + read);
      if (count === 0) return undefined;
      read += count;
    }
    return block;
  }
}

function line(bytes: Buffer, isTooLong: boolean, isEnded: boolean): FileLine {
  return isTooLong || bytes.length > maxLineBytes ? { bytes: bytes.subarray(0, 0), isTooLong: true, isEnded } : { bytes, isTooLong: false, isEnded };
}
