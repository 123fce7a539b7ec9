import { constants, openSync, writeSync } from 'node:fs';
import type { Failure } from './failure.ts';

const stderrFd = 2;

/** Longest piece of text that a stranger chose and that may appear in a line, in characters. */
const maxForeignTextLength = 200;

/** What the daemon tells its user, one line an event. Writing never throws and never waits. */
export interface Log {
  /** A line as it is, without the program's name in front. */
  line(text: string): void;
  /** `responses-api-proxy: <message>`. */
  say(message: string): void;
  /** The message of a failure, and its hint on a line of its own. */
  failure(failure: Failure): void;
}

/**
 * A log on stderr.
 *
 * A stderr that is closed, full or gone must not harm the daemon, and a pipe that nobody reads would block write(2) for
 * ever. So stderr is opened anew through /proc with O_NONBLOCK, which leaves the file description that others share as
 * it is; a line that does not fit is lost. Must be called before the process becomes untraceable: that closes /proc/self/fd.
 */
export function openLog(): Log {
  let fd = stderrFd;
  try {
    fd = openSync(`/proc/self/fd/${stderrFd}`, constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK);
  } catch {
    // A socket (journald's) cannot be opened this way, nor can another user's terminal: write to the original.
  }
  const line = (text: string): void => {
    try {
      writeSync(fd, `${text}\n`);
    } catch {
      // Nobody is left to be told.
    }
  };
  const say = (message: string): void => line(`responses-api-proxy: ${message}`);
  return {
    line,
    say,
    failure({ message, hint }) {
      say(message);
      if (hint !== undefined) line(`hint: ${hint}`);
    },
  };
}

/** Text that a stranger chose, made fit for a log line: control and non-ASCII characters escaped, cut to a length. */
export function foreign(text: string): string {
  const cut = text.length > maxForeignTextLength ? `${text.slice(0, maxForeignTextLength)}…` : text;
  return JSON.stringify(cut).replace(/[^\x20-\x7e…]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
