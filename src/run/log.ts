import { closeSync, constants, writeSync } from 'node:fs';
import type { Account } from '../native/native.ts';
import { openToAppend, tryToAppend } from './append-only-file.ts';
import { Failure, reason } from './failure.ts';

const highestStandardStream = 2;

const fileHint = 'name a file in a folder that exists; a link is not followed';

/** Longest piece of text that a stranger chose and that may appear in a line, in characters. */
const maxForeignTextLength = 200;

/**
 * What the daemon tells its user, one line an event: on stderr, or in the file of `--log-file`. Writing never throws and
 * never waits.
 */
export class Log {
  #fd: number;
  /** Stderr, for as long as somebody who started the daemon may look at it. */
  #stderr: number | undefined;

  /** @param stderr an open descriptor, on which writing does not block */
  constructor(stderr: number) {
    this.#fd = stderr;
    this.#stderr = stderr;
  }

  /** A line as it is, without the program's name in front. */
  line(text: string): void {
    write(this.#fd, text);
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

  /** The message of a failure, and its hint on a line of its own. On stderr too, if that was not let go of. */
  failure({ message, hint }: Failure): void {
    for (const fd of new Set([this.#fd, this.#stderr])) {
      if (fd === undefined) continue;
      write(fd, `responses-api-proxy: ${message}`);
      if (hint !== undefined) write(fd, `hint: ${hint}`);
    }
  }

  /**
   * Goes on in a file, at its end. A new file is 0600.
   *
   * @param owner who must be able to open it again after a rotation; undefined for the daemon's own user
   * @throws {Failure} when it cannot be opened, or is no regular file
   */
  moveTo(file: string, owner: Account | undefined): void {
    const fd = openLogFile(file, owner);
    if (this.#fd !== this.#stderr) closeSync(this.#fd);
    this.#fd = fd;
  }

  /** Opens the file anew, after somebody renamed it. Where that fails, the old one is gone on with, and says so. */
  reopen(file: string): void {
    try {
      this.moveTo(file, undefined);
    } catch (error) {
      this.say(error instanceof Error ? error.message : 'cannot reopen --log-file');
    }
  }

  /** Gives up our own descriptor of stderr, once a file has taken its place. */
  letGoOfStderr(): void {
    if (this.#stderr !== undefined && this.#stderr > highestStandardStream) closeSync(this.#stderr);
    this.#stderr = undefined;
  }
}

function write(fd: number, text: string): void {
  try {
    writeSync(fd, `${text}\n`);
  } catch {
    // Nobody is left to be told.
  }
}

/**
 * Checks that a log could go on in a file, and makes none.
 *
 * @throws {Failure} as `moveTo` does
 */
export function checkLogFile(file: string): void {
  const fd = regular(file, () => tryToAppend(file, constants.O_WRONLY));
  if (fd !== 'new') closeSync(fd);
}

function openLogFile(file: string, owner: Account | undefined): number {
  return regular(file, () => openToAppend(file, constants.O_WRONLY, owner));
}

function regular<T>(file: string, open: () => T | undefined): T {
  let fd: T | undefined;
  try {
    fd = open();
  } catch (error) {
    throw new Failure(`cannot open --log-file ${file}: ${reason(error)}`, { hint: fileHint });
  }
  if (fd !== undefined) return fd;
  throw new Failure(`cannot open --log-file ${file}: it is not a regular file`, { hint: fileHint });
}

/** Text that a stranger chose, made fit for a log line: control and non-ASCII characters escaped, cut to a length. */
export function foreign(text: string): string {
  const cut = text.length > maxForeignTextLength ? `${text.slice(0, maxForeignTextLength)}...` : text;
  return JSON.stringify(cut).replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
