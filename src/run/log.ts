import { fstatSync, writeSync } from 'node:fs';
import type { Failure } from './failure.ts';

/** Longest piece of text that others chose in a line, in characters. */
const maxQuotedLength = 200;

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

  /** A line without the program's name in front. */
  line(text: string): void {
    try {
      writeSync(this.#stderr, `${this.#isFile ? `${new Date().toISOString()} ` : ''}${escaped(text)}\n`);
    } catch {
      // A log that cannot be written has no other place to report that.
    }
  }

  say(message: string): void {
    this.line(`responses-api-proxy: ${message}`);
  }

  advise({ message, hint }: Pick<Failure, 'message' | 'hint'>): void {
    this.say(message);
    if (hint !== undefined) this.line(`hint: ${hint}`);
  }
}

/** Text as printable ASCII: a terminal obeys the rest, and a line feed would begin a line of its own. */
export function escaped(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Text that others chose, as a part of a line: in quotes, escaped, cut to a length. */
export function quote(text: string): string {
  return escaped(JSON.stringify(text.length > maxQuotedLength ? `${text.slice(0, maxQuotedLength)}...` : text));
}
