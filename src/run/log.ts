import { closeSync, constants, fstatSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Account } from '../native/native.ts';
import { openToAppend, tryToAppend } from './append-only-file.ts';
import { Failure, reason } from './failure.ts';
import { isPlanted } from './file-trust.ts';

const highestStandardStream = 2;

const fileHint = 'name a file in a folder that exists; a link is not followed';

/** Longest piece of untrusted text in a line, in characters. */
const maxForeignTextLength = 200;

/**
 * The daemon's messages, one line each: on stderr or, with `--log-file`, in a file. Lines in the file begin with the time,
 * which journald and other readers of stderr add by themselves. Writing never throws and never blocks.
 */
export class Log {
  /** The file, once there is one. */
  #file: number | undefined;
  /** Stderr, until it is released. */
  #stderr: number | undefined;

  /** @param stderr an open descriptor, on which writing does not block */
  constructor(stderr: number) {
    this.#stderr = stderr;
  }

  /** A line as it is, without the program's name in front. */
  line(text: string): void {
    if (this.#file !== undefined) write(this.#file, `${new Date().toISOString()} ${text}`);
    else if (this.#stderr !== undefined) write(this.#stderr, text);
  }

  /** `responses-api-proxy: <message>`. */
  say(message: string): void {
    this.line(`responses-api-proxy: ${message}`);
  }

  /** A message, and a hint on a line of its own. */
  advise({ message, hint }: { readonly message: string; readonly hint: string }): void {
    this.say(message);
    this.line(`hint: ${hint}`);
  }

  /** The message of a failure, and its hint on the next line. Both also go to stderr, unless that was released. */
  failure({ message, hint }: Failure): void {
    const lines = [`responses-api-proxy: ${message}`, ...(hint === undefined ? [] : [`hint: ${hint}`])];
    for (const text of lines) {
      this.line(text);
      if (this.#file !== undefined && this.#stderr !== undefined) write(this.#stderr, text);
    }
  }

  /**
   * Continues at the end of a file. A new file is 0600.
   *
   * @param owner the user who must be able to reopen it after a rotation; undefined for the daemon's own
   * @throws {Failure} when it cannot be opened, or is not a regular file
   */
  moveTo(file: string, owner: Account | undefined): void {
    const fd = openLogFile(file, owner);
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = fd;
  }

  /** Opens the file again after it was renamed. If that fails, the log continues in the old file, and says so there. */
  reopen(file: string): void {
    try {
      this.moveTo(file, undefined);
    } catch (error) {
      this.say(error instanceof Error ? error.message : 'cannot reopen --log-file');
    }
  }

  /** Closes our own descriptor of stderr, once a file has taken its place. */
  releaseStderr(): void {
    if (this.#stderr !== undefined && this.#stderr > highestStandardStream) closeSync(this.#stderr);
    this.#stderr = undefined;
  }
}

function write(fd: number, text: string): void {
  try {
    writeSync(fd, `${text}\n`);
  } catch {
    // A log that cannot be written has no other place to report that.
  }
}

/**
 * Checks that a log could go on in a file, and makes none.
 *
 * @throws {Failure} as `moveTo` does
 */
export function checkLogFile(file: string, owner: Account | undefined): void {
  const fd = regular(file, owner, () => tryToAppend(file, constants.O_WRONLY));
  if (fd !== 'new') closeSync(fd);
}

function openLogFile(file: string, owner: Account | undefined): number {
  return regular(file, owner, () => openToAppend(file, constants.O_WRONLY, owner));
}

function regular<T extends number | 'new'>(file: string, owner: Account | undefined, open: () => T | undefined): T {
  const refuse = (problem: string): Failure => new Failure(`cannot open --log-file ${file}: ${problem}`, { hint: fileHint });
  let fd: T | undefined;
  try {
    fd = open();
  } catch (error) {
    throw refuse(reason(error));
  }
  if (fd === undefined) throw refuse('it is not a regular file');
  if (typeof fd === 'number' && isPlanted(fstatSync(fd), statSync(dirname(file)), owner)) {
    closeSync(fd);
    throw refuse('it belongs to another user, in a folder that every user can write');
  }
  return fd;
}

/** Makes untrusted text fit for a line of the log: quoted, control and non-ASCII characters escaped, cut to a length. */
export function foreign(text: string): string {
  const cut = text.length > maxForeignTextLength ? `${text.slice(0, maxForeignTextLength)}...` : text;
  return JSON.stringify(cut).replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
