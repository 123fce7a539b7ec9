import { hash as digest } from 'node:crypto';
import { type Stats, closeSync, fstatSync, fsyncSync, readSync, statSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Account } from '../../native/native.ts';
import { Failure, reason } from '../../run/failure.ts';
import { openToAppend } from '../append-only-file.ts';
import { isTornEnd, lineOf, maxLineBytes, noHash, seal, tornMark } from './audit-chain.ts';
import { tokensIn } from './audit-past.ts';
import { type AuditNote, type AuditRecord, noteText, recordText } from './audit-record.ts';

/** How many records wait for a log that cannot be written. */
const maxWaiting = 1024;

/** As many of them may be of refused requests, which any process can make; the rest is for uses of the key. */
const maxWaitingRefused = maxWaiting / 4;

/** How far back from its end a file is searched for the last record. Beyond that, no torn write explains what is there. */
const maxTornBytes = 64 * 1024;

/** What every line begins with. */
const beginning = '{"kind":"';

const fileHint = 'choose another file, or move what is there away';

export interface AuditLogOptions {
  readonly file: string;
  /** By which it is reached, where that is another path than what messages say. */
  readonly path?: string;
  /** The target that is served, for `recordText`. */
  readonly endpoint: string;
  /** Whom a new file is given to; undefined for the daemon's own user. */
  readonly owner: Account | undefined;
  /** Locks an open file for this process alone, for as long as it is open; false if another has it. Undefined where nothing can. */
  readonly lock: ((descriptor: number) => boolean) | undefined;
  /** What all exchanges so far were charged, in tokens, which a new file carries on; undefined where nothing counts them. */
  readonly tokensCharged?: () => number;
  /** Tells the daemon's user: once when records cannot be written any more, once when they can again. */
  readonly report: (message: string) => void;
}

/** Why records cannot be written: the file is not where or what it was, which only `reopen` mends; or a write failed, which passes. */
type Trouble = { readonly kind: 'lost' | 'full'; readonly why: string };

/** The end of a log, as far as it is written. */
interface End {
  /** The file's size, in bytes. */
  size: number;
  /** The last record's hash. */
  hash: string;
  /** Whether the file has a record yet. */
  hasRecord: boolean;
  /** What a write that did not finish has left behind that record. */
  torn: Buffer;
}

/**
 * The file of `--audit-log`: a line a request, in the order that they end, chained (see `audit-chain.ts`). A record is
 * in the file when `append` returns, for every reader and even if this process is killed; not for a machine that
 * loses its power. What cannot be written waits, and is written as soon as that is possible again.
 *
 * It is never rotated by itself. To do so, rename it and call `reopen` (SIGUSR2): the new file goes on with the chain.
 * What ends between the two stands in the renamed file, or waits.
 */
export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #file: string;
  readonly #path: string;
  #fd: number;
  /** Which file it is that we have open. */
  #id: Pick<Stats, 'dev' | 'ino'>;
  #end: End;
  #trouble: Trouble | undefined;
  /** Records that are not in the file, oldest first. */
  #waiting: string[] = [];
  /** Records for which there was no room among them. */
  #lost = 0;
  #isLookDue = false;
  /** We may not look at the file's path any more. */
  #isOutOfSight = false;

  /**
   * Opens the file, or makes it, 0600 and empty; and finds where its last record ends. Nothing is written yet.
   *
   * @throws {Failure} when that is impossible: not a regular file, another user's, or not an audit log
   */
  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#file = resolve(options.file); // independent of later changes of the working directory
    this.#path = options.path ?? this.#file;
    this.#fd = this.#open();
    try {
      this.#id = fstatSync(this.#fd);
      this.#end = this.#findEnd(this.#fd);
    } catch (error) {
      closeSync(this.#fd);
      throw error instanceof Failure ? error : this.#failure(reason(error));
    }
  }

  /**
   * Goes on with the chain where it ends.
   *
   * @throws {Failure} when the first line cannot be written
   */
  begin(): void {
    try {
      this.#begin();
    } catch (error) {
      throw this.#failure(reason(error));
    }
  }

  /** The last record's hash. Kept elsewhere, it proves later that nothing before it was changed (`audit verify --contains`). */
  get lastHash(): string {
    return this.#end.hash;
  }

  /** Records that are not in the file, and may never be. */
  get missing(): number {
    return this.#waiting.length + this.#lost;
  }

  /** Every record so far is in the file. */
  get healthy(): boolean {
    return this.#trouble === undefined;
  }

  /**
   * Whether the next record can be written, as far as can be told beforehand; for `--audit-required`, at the start of a
   * request. Where writing had failed, it is tried again.
   */
  ready(): boolean {
    return this.#flush(this.#problemOfPlace());
  }

  /** Writes a record. Never throws: what goes wrong is reported, and shows in `healthy`. */
  append(record: AuditRecord): void {
    if (this.#waiting.length < (record.decision === 'refused' ? maxWaitingRefused : maxWaiting)) this.#waiting.push(recordText(record, this.#options.endpoint));
    else this.#lost++;
    this.#flush(this.#problemOfFile());
    this.#lookSoon();
  }

  /** Opens the file anew, after it was renamed. Where that fails, it is reported, and records wait until it is called again. */
  reopen(): void {
    if (this.#trouble?.kind !== 'lost' && this.#problemOfPlace() === undefined) {
      if (this.#isOutOfSight) this.#options.report(`--audit-log ${this.#file} cannot be opened anew: its folder is closed to the daemon`);
      return; // it is the same one, as far as we can see
    }
    const { hash, size } = this.#end;
    const before = this.#id;
    try {
      // Closed first: it may be the very same file, changed, and its lock is in the way of ours.
      if (this.#fd !== -1) closeSync(this.#fd);
      this.#fd = -1;
      this.#fd = this.#open();
      this.#id = fstatSync(this.#fd);
      this.#end = this.#findEnd(this.#fd);
      const wasCut = this.#id.ino === before.ino && this.#id.dev === before.dev && this.#end.size < size;
      // The chain goes on from where we were: in an empty file, and in one that was cut, so that it shows that something is missing.
      if (this.#end.size === 0 || wasCut) this.#end.hash = hash;
    } catch (error) {
      this.#trouble = undefined; // so that this is reported, too
      this.#fail('lost', error instanceof Failure ? error.message : reason(error));
      return;
    }
    if (this.#trouble !== undefined) this.#trouble = { kind: 'full', why: this.#trouble.why };
    this.#flush(this.#problemOfFile());
  }

  /** To be called last: makes the file survive a loss of power, and reports what is not in it. */
  close(): void {
    this.#flush(this.#problemOfPlace());
    if (this.missing > 0) this.#options.report(`--audit-log ${this.#file}: ${this.missing} requests are not recorded`);
    if (this.#fd === -1) return;
    try {
      fsyncSync(this.#fd);
      closeSync(this.#fd);
    } catch (error) {
      // Some file systems cannot (EINVAL); the records are with the kernel.
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') this.#options.report(`--audit-log ${this.#file} may not survive a loss of power: ${reason(error)}`);
    }
    this.#fd = -1;
  }

  /**
   * The path is looked up after the record is written: a client that waits for its answer need not wait for that as well, and of a
   * file that was moved nothing is lost. One look serves for all that is written in a turn.
   */
  #lookSoon(): void {
    if (this.#isLookDue) return;
    this.#isLookDue = true;
    setImmediate(() => {
      this.#isLookDue = false;
      if (this.#fd !== -1) this.#flush(this.#problemOfPlace());
    });
  }

  /**
   * Writes what waits. Returns whether all of it, and the file, is as it should be.
   *
   * @param found what is wrong with the file, as was just looked up
   */
  #flush(found: string | undefined): boolean {
    if (this.#trouble?.kind === 'lost') return false;
    const problem = this.#end.torn.length > maxTornBytes ? 'too many writes broke off' : found;
    if (problem !== undefined) return this.#fail('lost', problem);
    try {
      this.#begin();
      for (let text = this.#waiting[0]; text !== undefined; text = this.#waiting[0]) {
        this.#write(text);
        this.#waiting.shift();
      }
      if (this.#lost > 0) this.#note({ kind: 'gap', time: Date.now(), lost: this.#lost });
    } catch (error) {
      return this.#fail('full', reason(error));
    }
    if (this.#trouble === undefined) return true;
    const lost = this.#lost === 0 ? 'nothing is missing' : `${this.#lost} requests are missing`;
    this.#options.report(`--audit-log ${this.#file} is written again; ${lost}`);
    this.#lost = 0;
    this.#trouble = undefined;
    return true;
  }

  #fail(kind: Trouble['kind'], why: string): false {
    if (this.#trouble?.kind !== kind) this.#options.report(`--audit-log ${this.#file} cannot be written: ${why}`);
    this.#trouble = { kind, why };
    return false;
  }

  /** What is wrong with the file that we have open: it was removed, or another process changed it. */
  #problemOfFile(): string | undefined {
    if (this.#fd === -1) return 'it is not open';
    try {
      return this.#changeIn(fstatSync(this.#fd));
    } catch (error) {
      return reason(error);
    }
  }

  /** The same, or that it cannot be found at its place. */
  #problemOfPlace(): string | undefined {
    if (this.#fd === -1) return 'it is not open';
    try {
      const stats = this.#statsOfPlace();
      if (stats?.ino === this.#id.ino && stats.dev === this.#id.dev) return this.#changeIn(stats);
      if (fstatSync(this.#fd).nlink === 0) return 'it was removed';
      return stats === undefined ? 'it was moved' : 'it was moved, and there is another one';
    } catch (error) {
      return reason(error);
    }
  }

  #changeIn({ nlink, size }: Stats): string | undefined {
    if (nlink === 0) return 'it was removed';
    if (size === this.#end.size) return undefined;
    return size < this.#end.size ? 'it was cut' : 'another program writes to it';
  }

  #statsOfPlace(): Stats | undefined {
    try {
      return statSync(this.#path, { throwIfNoEntry: false });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error;
      // After --run-as the folder may be closed to us. What we have open is still the file, as far as we can know.
      if (!this.#isOutOfSight) this.#options.report(`--audit-log ${this.#file}: its folder is closed to the daemon, which cannot notice that the file is moved, or open another`);
      this.#isOutOfSight = true;
      return fstatSync(this.#fd);
    }
  }

  /** What has to be written before anything else: a new file's first line, or what is to be said about a torn end. */
  #begin(): void {
    if (this.#end.torn.length > 0) this.#recover();
    if (this.#end.size === 0) this.#note({ kind: 'begin', time: Date.now(), tokens: this.#tokensBefore() });
  }

  #recover(): void {
    const { torn } = this.#end;
    const mark = `${tornMark}\n`;
    const tornHash = digest('sha256', Buffer.concat([torn, Buffer.from(mark)]));
    this.#note({ kind: 'recovered', time: Date.now(), tornBytes: torn.length + mark.length, tornHash, tokens: this.#end.hasRecord ? undefined : this.#tokensBefore() }, mark);
    this.#end.torn = Buffer.alloc(0);
  }

  #note(note: AuditNote, before = ''): void {
    this.#write(noteText(note), before);
  }

  /** @throws when not all of it could be written; what could be is then in `#end.torn` */
  #write(text: string, before = ''): void {
    const { line, hash } = seal(text, this.#end.hash);
    const bytes = Buffer.from(before + line, 'latin1');
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(this.#fd, bytes, written);
    } finally {
      this.#end.size += written;
      if (written < bytes.length && written > 0) this.#end.torn = Buffer.concat([this.#end.torn, bytes.subarray(0, written)]);
    }
    this.#end.hash = hash;
    this.#end.hasRecord = true;
  }

  /** What the records before this file's first were charged: the waiting ones come behind it, and count there. */
  #tokensBefore(): number | undefined {
    const charged = this.#options.tokensCharged?.();
    if (charged === undefined) return undefined;
    return Math.max(0, this.#waiting.reduce((tokens, text) => tokens - tokensIn(text, this.#options.endpoint), charged));
  }

  #failure(why: string, hint = fileHint): Failure {
    return new Failure(`cannot open --audit-log ${this.#options.file}: ${why}`, { hint });
  }

  #open(): number {
    let fd: number;
    try {
      fd = openToAppend(this.#path, this.#options.owner);
    } catch (error) {
      throw this.#failure(reason(error), writeHint(error, fileHint));
    }
    const problem = this.#unfit(fd);
    if (problem === undefined) return fd;
    closeSync(fd);
    throw this.#failure(problem);
  }

  #unfit(fd: number): string | undefined {
    const stats = fstatSync(fd);
    const { owner, lock } = this.#options;
    if (stats.uid !== owner?.uid && stats.uid !== process.geteuid?.()) return 'it belongs to another user';
    if ((stats.mode & 0o022) !== 0) return 'others may write to it';
    try {
      return lock?.(fd) === false ? 'another process has it open as its audit log' : undefined;
    } catch (error) {
      return `it cannot be locked: ${reason(error)}`;
    }
  }

  /** @throws {Failure} when the file does not end as an audit log does */
  #findEnd(fd: number): End {
    const { size } = fstatSync(fd);
    const tail = readTail(fd, size);
    const lastNewline = tail.lastIndexOf('\n');
    if (!isTornEnd(tail.subarray(lastNewline + 1))) throw this.#failure('its end is not that of an audit log');
    for (let end = lastNewline; end !== -1; ) {
      const before = end === 0 ? -1 : tail.lastIndexOf('\n', end - 1);
      const line = lineOf(tail.subarray(before + 1, end));
      if (line.kind === 'record' && line.isWhole) return { size, hash: line.hash, hasRecord: true, torn: Buffer.from(tail.subarray(end + 1)) };
      if (line.kind !== 'torn') throw this.#failure('its last line is no record, or was changed; `responses-api-proxy audit verify` tells more');
      end = before;
    }
    // Not a single record: it is empty, or its very first line was torn.
    const isBeginning = size === tail.length && beginning.startsWith(tail.toString('latin1', 0, beginning.length));
    if (!isBeginning) throw this.#failure('it is not an audit log');
    return { size, hash: noHash, hasRecord: false, torn: tail };
  }
}

function readTail(fd: number, size: number): Buffer {
  const tail = Buffer.alloc(Math.min(size, maxTornBytes + maxLineBytes));
  let read = 0;
  while (read < tail.length) {
    const count = readSync(fd, tail, read, tail.length - read, size - tail.length + read);
    if (count === 0) break; // cut since
    read += count;
  }
  return tail.subarray(0, read);
}

/** What to do about a log that cannot be opened; `otherwise` where the error alone does not tell. */
function writeHint(error: unknown, otherwise: string): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return 'create its folder first';
    case 'EACCES':
    case 'EPERM':
      return 'give the user who starts the daemon the right to write there, or choose another folder';
    case 'EROFS':
      return 'choose a folder that is not read-only (in a systemd unit: LogsDirectory= or ReadWritePaths=)';
    default:
      return otherwise;
  }
}
