import { closeSync, writeSync } from 'node:fs';
import type { Failure } from './failure.ts';

const highestStandardStream = 2;

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

  /** @param file an open descriptor; lines go to its end from here on */
  moveTo(file: number): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = file;
  }

  /**
   * Reopens the file after it was renamed. If that fails, the log continues in the old one, and says so there.
   *
   * @param open opens it
   */
  reopen(open: () => number): void {
    try {
      this.moveTo(open());
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

/** Makes untrusted text fit for a line of the log: quoted, control and non-ASCII characters escaped, cut to a length. */
export function foreign(text: string): string {
  const cut = text.length > maxForeignTextLength ? `${text.slice(0, maxForeignTextLength)}...` : text;
  return JSON.stringify(cut).replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
