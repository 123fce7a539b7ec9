import { fstatSync, writeSync } from 'node:fs';
import type { Failure } from './failure.ts';

/** Longest piece of untrusted text in a line, in characters. */
const maxForeignTextLength = 200;

/**
 * The daemon's messages on stderr, one line each. Writing never throws and never blocks. In a file each line begins with
 * the time; what reads a pipe or socket, such as journald, adds that by itself.
 */
export class Log {
  readonly #stderr: number;
  readonly #isFile: boolean;

  /** @param stderr an open descriptor, on which writing does not block */
  constructor(stderr: number) {
    this.#stderr = stderr;
    this.#isFile = fstatSync(stderr).isFile();
  }

  /** A line as it is, without the program's name in front. */
  line(text: string): void {
    try {
      writeSync(this.#stderr, `${this.#isFile ? `${new Date().toISOString()} ` : ''}${text}\n`);
    } catch {
      // A log that cannot be written has no other place to report that.
    }
  }

  /** `responses-api-proxy: <message>`. */
  say(message: string): void {
    this.line(`responses-api-proxy: ${message}`);
  }

  /** A message, and a hint on a line of its own. */
  advise({ message, hint }: Pick<Failure, 'message' | 'hint'>): void {
    this.say(message);
    if (hint !== undefined) this.line(`hint: ${hint}`);
  }
}

/** Makes untrusted text fit for a line of the log: quoted, control and non-ASCII characters escaped, cut to a length. */
export function foreign(text: string): string {
  const cut = text.length > maxForeignTextLength ? `${text.slice(0, maxForeignTextLength)}...` : text;
  return JSON.stringify(cut).replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
