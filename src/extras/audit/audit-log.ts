import { hash as digest } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, writeSync } from 'node:fs';
import type { Account } from '../../native/native.ts';
import { Failure, reason } from '../../run/failure.ts';
import { create, openExisting } from '../../run/written-file.ts';
import { isTornEnd, lineOf, maxLineBytes, noHash, seal, tornMark } from './audit-chain.ts';
import { linesBack, readAt } from './audit-lines.ts';
import { tokensIn } from './audit-past.ts';
import { type AuditRecord, recordText } from './audit-record.ts';

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
  /** What all exchanges so far were charged, in tokens, which a new file carries on; undefined where nothing counts them. */
  readonly tokensCharged?: () => number;
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
}

/**
 * The file of `--audit-log`: a line a request, in the order that they end, chained (see `audit-chain.ts`). A record is
 * in the file when `append` returns, for every reader and even if this process is killed; not for a machine that
 * loses its power. What cannot be written waits, and is written as soon as that is possible again.
 *
 * It is never rotated by itself. To do so, rename it and call `reopen` (SIGUSR2): the new file goes on with the chain.
 * Until then the renamed file is the log.
 */
export class AuditLog {
  readonly #options: AuditLogOptions;
  #fd = -1;
  #end: End;
  /** Why records cannot be written: the file is not what it was, which only `reopen` mends; or a write failed, which passes. */
  #trouble: 'lost' | 'full' | undefined;
  /** Records that are not in the file, oldest first. */
  readonly #waiting: string[] = [];
  /** Records for which there was no room among them. */
  #lost = 0;

  /**
   * Opens the file, or makes it, 0600 and empty; and finds where its last record ends. Nothing is written yet.
   *
   * @throws {Failure} when that is impossible: not a regular file, another user's, or not an audit log
   */
  constructor(options: AuditLogOptions) {
    this.#options = options;
    ({ fd: this.#fd, end: this.#end } = this.#open());
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
      throw this.#failure(reason(error), writeHint(error));
    }
  }

  /** Records that are not in the file, and may never be. */
  get missing(): number {
    return this.#waiting.length + this.#lost;
  }

  /**
   * Whether the next record can be written, as far as can be told beforehand. Where writing had failed, it is tried again.
   * To be called before each use of the key: without a record there is none.
   */
  ready(): boolean {
    return this.#flush();
  }

  /** Writes a record. Never throws: what goes wrong is reported. */
  append(record: AuditRecord): void {
    if (record.decision === 'refused' && this.#waiting.length >= maxWaitingRefused) this.#lost++;
    else this.#waiting.push(recordText(record, this.#options.endpoint));
    this.#flush();
  }

  /** Opens the file anew, after it was renamed. Where that fails, it is reported, and the one that is open stays the log. */
  reopen(): void {
    try {
      const { fd, end } = this.#open();
      const isSame = fd === this.#fd;
      if (isSame && this.#trouble !== 'lost') return;
      // The chain goes on from where we were: in an empty file, and in one that was cut, so that it shows that something is missing.
      if (end.size === 0 || (isSame && end.size < this.#end.size)) end.hash = this.#end.hash;
      if (!isSame) closeSync(this.#fd);
      this.#fd = fd;
      this.#end = end;
    } catch (error) {
      this.#options.report(`${(error as Failure).message}${this.#trouble === 'lost' ? '' : '; the file that is open stays the log'}`);
      return;
    }
    if (this.#trouble === 'lost') this.#trouble = 'full';
    this.#flush();
  }

  /** To be called last: makes the file survive a loss of power, and reports what is not in it. */
  close(): void {
    if (this.#fd === -1) return;
    this.#flush();
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

  /** Writes what waits. Returns whether all of it is in the file, and that is as we left it. */
  #flush(): boolean {
    if (this.#trouble === 'lost') return false;
    const change = this.#change();
    if (change !== undefined) return this.#fail('lost', change);
    try {
      this.#begin();
      for (let text = this.#waiting[0]; text !== undefined; text = this.#waiting[0]) {
        this.#write(text);
        this.#waiting.shift();
      }
      if (this.#lost > 0) this.#note('gap', { lost: this.#lost });
    } catch (error) {
      return this.#fail('full', reason(error));
    }
    if (this.#trouble === undefined) return true;
    const lost = this.#lost === 0 ? 'nothing is missing' : `${this.#lost} requests are missing`;
    this.#options.report(`--audit-log ${this.#options.file} is written again; ${lost}`);
    this.#lost = 0;
    this.#trouble = undefined;
    return true;
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

  /** What has to be written before anything else: a new file's first line, or what is to be said about a torn end. */
  #begin(): void {
    if (this.#end.torn.length > 0) this.#recover();
    if (this.#end.size === 0) this.#note('begin', { tokens: this.#tokensBefore() });
  }

  #recover(): void {
    const { torn, size } = this.#end;
    const mark = `${tornMark}\n`;
    const tornHash = digest('sha256', Buffer.concat([torn, Buffer.from(mark)]));
    const isFirst = torn.length === size;
    this.#note('recovered', { torn_bytes: torn.length + mark.length, torn_sha256: tornHash, tokens: isFirst ? this.#tokensBefore() : undefined }, mark);
    this.#end.torn = Buffer.alloc(0);
  }

  /** Writes what happened to the log itself. */
  #note(kind: 'begin' | 'recovered' | 'gap', facts: Readonly<Record<string, string | number | undefined>>, before = ''): void {
    this.#write(JSON.stringify({ kind, time: new Date().toISOString(), ...facts }), before);
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
  }

  /** What the records before this file's first were charged: the waiting ones come behind it, and count there. */
  #tokensBefore(): number | undefined {
    const charged = this.#options.tokensCharged?.();
    if (charged === undefined) return undefined;
    return Math.max(0, this.#waiting.reduce((tokens, text) => tokens - tokensIn(text, this.#options.endpoint), charged));
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
      const { uid, mode } = fstatSync(fd);
      if (uid !== owner?.uid && uid !== process.geteuid?.()) throw new Error('it belongs to another user');
      if ((mode & 0o022) !== 0) throw new Error('others may write to it');
      if (this.#fd !== -1 && isSameFile(fd, this.#fd)) {
        closeSync(fd);
        fd = this.#fd;
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
    if (line?.kind === 'record' && line.isWhole) return { size, hash: line.hash, torn: readAt(fd, size - tornBytes, tornBytes) };
    if (isEnded && line?.kind !== 'torn') throw new Error('its last line is no record, or was changed; `responses-api-proxy audit verify` tells more');
    tornBytes += bytes.length + Number(isEnded);
    if (tornBytes > maxTornBytes + maxLineBytes) break;
  }
  // Not a single record: it is empty, or its very first line was torn.
  const torn = readAt(fd, 0, Math.min(size, tornBytes));
  if (torn.length < size || !beginning.startsWith(torn.toString('latin1', 0, beginning.length))) throw new Error('it is not an audit log');
  return { size, hash: noHash, torn };
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
