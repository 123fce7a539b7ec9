import { hash as digest } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, writeSync } from 'node:fs';
import type { Account } from '../../native/native.ts';
import { Failure, reason } from '../../run/failure.ts';
import { create, openExisting } from '../../run/written-file.ts';
import { isTornEnd, lineOf, maxLineBytes, noHash, seal, tornMark } from './audit-chain.ts';
import { linesBack, readAt } from './audit-lines.ts';
import { type Admission, type Ledger, ledgerOf, notBegun } from './audit-ledger.ts';
import { type AuditRecord, admittedText, recordText, unknownEndText } from './audit-record.ts';

/** Most records of refused requests that wait for a log that cannot be written, which every process can cause. */
const maxWaitingRefused = 256;

/** How far back from its end a file is searched for the last record. Beyond that, no torn write explains what is there. */
const maxTornBytes = 64 * 1024;

/** What every line begins with. */
const beginning = '{"kind":"';

export interface AuditLogOptions {
  readonly file: string;
  /** By which it is reached, where that is another path than what messages say. */
  readonly path?: string;
  /** The target that is served, for `recordText`. */
  readonly endpoint: string;
  /** Whom a new file is given to; undefined for the daemon's own user. */
  readonly owner: Account | undefined;
  /** Locks an open file for this process alone, for as long as it is open; false if another has it. */
  readonly lock: (descriptor: number) => boolean;
  /** Tells the daemon's user: once when records cannot be written any more, once when they can again. */
  readonly report: (message: string) => void;
}

/** The end of a log, as far as it is written. */
interface End {
  /** The file's size, in bytes. */
  size: number;
  /** The last record's hash. */
  hash: string;
  /** What writes that did not finish have left behind that record. */
  torn: Buffer;
  /** It has its first lines: what the chain and the ledger go on from. */
  isBegun: boolean;
}

/**
 * The file of `--audit-log`: a line when a request may use the key, and one when it ends, chained (see `audit-chain.ts`). A
 * line is in the file when `admit` or `append` returns, for every reader and even if this process is killed; not for a
 * machine that loses its power. An end that cannot be written waits, and is written as soon as that is possible again.
 *
 * It is never rotated by itself. To do so, rename it and call `reopen` (SIGUSR2): the new file goes on with the chain.
 * Until then the renamed file is the log.
 */
export class AuditLog {
  /** What the lines in the file add up to, with those of the files before it. */
  readonly ledger: Ledger;
  readonly #options: AuditLogOptions;
  #fd = -1;
  #end: End;
  /** Why records cannot be written: the file is not what it was, which only `reopen` mends; or a write failed, which passes. */
  #trouble: 'lost' | 'full' | undefined;
  /** Records that are not in the file, oldest first. */
  readonly #waiting: AuditRecord[] = [];
  /** Lines that a new file begins with and does not have yet, without their hashes. */
  readonly #first: string[] = [];
  /** Records for which there was no room among them. */
  #lost = 0;

  /**
   * Opens the file, or makes it, 0600 and empty; finds where its last record ends, and what it adds up to. Nothing is
   * written yet.
   *
   * @throws {Failure} when that is impossible: not a regular file, another user's, or not an audit log
   */
  constructor(options: AuditLogOptions) {
    this.#options = options;
    ({ fd: this.#fd, end: this.#end } = this.#open());
    try {
      this.ledger = ledgerOf(this.#fd);
    } catch (error) {
      throw this.#failure(reason(error), writeHint(error));
    }
  }

  /**
   * Goes on with the chain where it ends, and closes what an earlier run left open.
   *
   * @throws {Failure} when that cannot be written
   */
  start(): void {
    try {
      this.#begin();
      const time = Date.now();
      for (const admission of this.ledger.open.values()) {
        this.#write([unknownEndText(admission, time)]);
        this.ledger.end({ id: admission.id, time, charged: admission.estimate });
      }
      this.#write([noteText('start', this.ledger.sums())]);
    } catch (error) {
      throw this.#failure(reason(error), writeHint(error));
    }
  }

  /** Records that are not in the file, and may never be. */
  get missing(): number {
    return this.#waiting.length + this.#lost;
  }

  /** Writes that a request may use the key, and says whether that is in the file. Never throws, as `append`. */
  admit(admission: Admission): boolean {
    return this.ready() && this.#attempt(() => {
      this.#write([admittedText(admission, false)]);
      this.ledger.admit(admission);
    });
  }

  /** Writes a record. Never throws: what goes wrong is reported. */
  append(record: AuditRecord): void {
    if (record.decision === 'refused' && this.#waiting.length >= maxWaitingRefused) this.#lost++;
    else this.#waiting.push(record);
    this.ready();
  }

  /** Opens the file anew, after it was renamed. Where that fails, it is reported, and the one that is open stays the log. */
  reopen(): void {
    try {
      const { fd, end } = this.#open();
      const isSame = fd === this.#fd;
      if (isSame && this.#trouble !== 'lost') return;
      // The chain goes on from where we were: in an empty file, and in one that was cut, so that it shows that something is missing.
      if (end.size < this.#end.size || !isSame) Object.assign(end, { hash: this.#end.hash, isBegun: false });
      if (!isSame) closeSync(this.#fd);
      this.#fd = fd;
      this.#end = end;
    } catch (error) {
      this.#options.report(`${(error as Failure).message}${this.#trouble === 'lost' ? '' : '; the file that is open stays the log'}`);
      return;
    }
    if (this.#trouble === 'lost') this.#trouble = 'full';
    this.ready();
  }

  /** To be called last: makes the file survive a loss of power, and reports what is not in it. */
  close(): void {
    if (this.#fd === -1) return;
    if (this.ready()) this.#attempt(() => this.#write([noteText('stop', {})]));
    if (this.missing > 0) this.#options.report(`--audit-log ${this.#options.file}: ${this.missing} requests are not recorded`);
    try {
      fsyncSync(this.#fd);
    } catch (error) {
      // Some file systems cannot (EINVAL); the records are with the kernel.
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') this.#options.report(`--audit-log ${this.#options.file} may not survive a loss of power: ${reason(error)}`);
    }
    closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Writes what waits. Returns whether all of it is in the file, and that is as we left it: without a record there is no use of the key. */
  ready(): boolean {
    if (this.#trouble === 'lost') return false;
    const change = this.#change();
    if (change !== undefined) return this.#fail('lost', change);
    const isWritten = this.#attempt(() => {
      this.#begin();
      for (let record = this.#waiting[0]; record !== undefined; record = this.#waiting[0]) {
        this.#write([recordText(record, this.#options.endpoint)]);
        this.#waiting.shift();
        this.ledger.end(record);
      }
      if (this.#lost > 0) this.#write([noteText('gap', { lost: this.#lost })]);
    });
    if (!isWritten || this.#trouble === undefined) return isWritten;
    const lost = this.#lost === 0 ? 'nothing is missing' : `${this.#lost} requests are missing`;
    this.#options.report(`--audit-log ${this.#options.file} is written again; ${lost}`);
    this.#lost = 0;
    this.#trouble = undefined;
    return true;
  }

  #attempt(write: () => void): boolean {
    try {
      write();
      return true;
    } catch (error) {
      return this.#fail('full', reason(error));
    }
  }

  #fail(trouble: 'lost' | 'full', why: string): false {
    if (this.#trouble !== trouble) this.#options.report(`--audit-log ${this.#options.file} cannot be written: ${why}`);
    this.#trouble = trouble;
    return false;
  }

  /** What has become of the file that we have open, wherever it is now; undefined where it is as we left it. */
  #change(): string | undefined {
    if (this.#end.torn.length > maxTornBytes) return 'too many writes broke off';
    try {
      const { nlink, size } = fstatSync(this.#fd);
      if (nlink === 0) return 'it was removed';
      if (size === this.#end.size) return undefined;
      return size < this.#end.size ? 'it was cut' : 'another program writes to it';
    } catch (error) {
      return reason(error);
    }
  }

  /** What has to be written before anything else: what is to be said about a torn end, and a new file's first lines. */
  #begin(): void {
    if (this.#end.torn.length > 0) this.#recover();
    if (!this.#end.isBegun) {
      const carried = [...this.ledger.open.values()].map((admission) => admittedText(admission, true));
      this.#first.splice(0, Infinity, noteText('begin', { ...this.ledger.sums(), open: carried.length }), ...carried);
      this.#end.isBegun = true;
    }
    // In one write, so that a kill leaves none of them or all.
    if (this.#first.length > 0) this.#write(this.#first);
  }

  #recover(): void {
    const { torn } = this.#end;
    const mark = `${tornMark}\n`;
    const tornHash = digest('sha256', Buffer.concat([torn, Buffer.from(mark)]));
    this.#write([noteText('recovered', { torn_bytes: torn.length + mark.length, torn_sha256: tornHash })], mark);
    this.#end.torn = Buffer.alloc(0);
  }

  /**
   * Writes lines, and takes those out that are in the file.
   *
   * @throws when not all of it could be written; what could be of a line is then in `#end.torn`
   */
  #write(texts: string[], before = ''): void {
    let { hash } = this.#end;
    const lines = texts.map((text, index) => {
      const sealed = seal(text, hash);
      ({ hash } = sealed);
      return { hash, bytes: Buffer.from(index === 0 ? before + sealed.line : sealed.line, 'latin1') };
    });
    const bytes = Buffer.concat(lines.map((line) => line.bytes));
    let [written, whole] = [0, 0];
    try {
      while (written < bytes.length) written += writeSync(this.#fd, bytes, written);
    } finally {
      this.#end.size += written;
      for (const line of lines) {
        if (whole + line.bytes.length > written) break;
        whole += line.bytes.length;
        this.#end.hash = line.hash;
        texts.shift();
      }
      if (written > whole) this.#end.torn = Buffer.concat([this.#end.torn, bytes.subarray(whole, written)]);
    }
  }

  #failure(why: string, hint: string): Failure {
    return new Failure(`cannot open --audit-log ${this.#options.file}: ${why}`, { hint });
  }

  /**
   * Opens the file, or makes it, locks it and finds its end. Where it is the file that we have, its descriptor stays.
   *
   * @throws {Failure}
   */
  #open(): { fd: number; end: End } {
    const { file, path = file, owner, lock } = this.#options;
    let fd = -1;
    try {
      const flags = constants.O_RDWR | constants.O_APPEND;
      fd = openExisting(path, flags, owner) ?? create(path, flags, 0o600, owner);
      const { uid, mode, size } = fstatSync(fd);
      if (uid !== owner?.uid && uid !== process.geteuid?.()) throw new Error('it belongs to another user');
      if ((mode & 0o022) !== 0) throw new Error('others may write to it');
      if (this.#fd !== -1 && isSameFile(fd, this.#fd)) {
        closeSync(fd);
        fd = this.#fd;
      } else if (this.#fd !== -1 && size > 0) {
        throw new Error('it is not empty: move it away, or start the daemon anew, which goes on with it');
      } else if (!locked(fd, lock)) {
        throw new Error('another process has it open as its audit log');
      }
      return { fd, end: endOf(fd) };
    } catch (error) {
      if (fd !== -1 && fd !== this.#fd) closeSync(fd);
      throw this.#failure(reason(error), writeHint(error));
    }
  }
}

/** What happened to the log itself. */
function noteText(kind: 'begin' | 'start' | 'stop' | 'recovered' | 'gap', facts: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ kind, time: new Date().toISOString(), ...facts });
}

function isSameFile(one: number, other: number): boolean {
  const [a, b] = [fstatSync(one), fstatSync(other)];
  return a.ino === b.ino && a.dev === b.dev;
}

function locked(fd: number, lock: AuditLogOptions['lock']): boolean {
  try {
    return lock(fd);
  } catch (error) {
    throw new Error(`it cannot be locked: ${reason(error)}`);
  }
}

/** @throws when a file does not end as an audit log does */
function endOf(fd: number): End {
  const { size } = fstatSync(fd);
  let tornBytes = 0;
  for (const { bytes, isTooLong, isEnded } of linesBack(fd)) {
    if (!isEnded && (isTooLong || !isTornEnd(bytes))) throw new Error('its end is not that of an audit log');
    const line = isEnded ? lineOf(bytes) : undefined;
    if (line?.kind === 'record' && line.isWhole) return { size, hash: line.hash, torn: readAt(fd, size - tornBytes, tornBytes), isBegun: true };
    if (isEnded && line?.kind !== 'torn') throw new Error('its last line is no record, or was changed; `responses-api-proxy audit verify` tells more');
    tornBytes += bytes.length + Number(isEnded);
    if (tornBytes > maxTornBytes + maxLineBytes) break;
  }
  if (size === 0) return { size, hash: noHash, torn: Buffer.alloc(0), isBegun: false };
  const isTorn = tornBytes === size && beginning.startsWith(readAt(fd, 0, beginning.length).toString('latin1'));
  throw new Error(isTorn ? notBegun : 'it is not an audit log');
}

/** What to do about a log that cannot be opened. */
function writeHint(error: unknown): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return 'create its folder first';
    case 'EACCES':
    case 'EPERM':
      return 'give the user who starts the daemon the right to write there, or choose another folder';
    case 'EROFS':
      return 'choose a folder that is not read-only (in a systemd unit: LogsDirectory= or ReadWritePaths=)';
    default:
      return 'choose another file, or move what is there away';
  }
}
