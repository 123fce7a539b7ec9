import { fstatSync } from 'node:fs';
import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { Failure, reason } from '../run/failure.ts';
import { copyBytes } from './copy-bytes.ts';
import { type KeyProblem, lineFeed, parseKeyLine, tooLong } from './key-line.ts';
import type { LockedKey, NextLine } from './locked-key.ts';

const pipeHint = 'pipe the keys in, one a line, from a program that keeps running';

/**
 * Checks that lines can still come on `fd`. A regular file delivers all lines at once, so
 * only the last key would be used.
 *
 * @throws {Failure} unless it is a pipe or a socket; a terminal passes, for `readFirstLine` to refuse
 */
export function checkRenewable(fd: number): void {
  const kind = fstatSync(fd);
  if (kind.isFIFO() || kind.isSocket() || kind.isCharacterDevice()) return;
  throw notAPipe(kind.isFile() ? 'a file' : 'something else');
}

/**
 * `--renewable-key`: from now on, each further line replaces the key.
 *
 * libuv reads straight into locked memory, which node's `onread` makes possible. Nothing that is said here depends on a
 * key's bytes: two keys of one length look the same.
 *
 * @param fd where lines come from: a pipe or a stream socket
 * @param next where they are read into
 * @param report told of each renewal, each line that is no key and the end of input; never of a key
 * @throws {Failure} when `fd` is neither a pipe nor a stream socket
 */
export function renewFrom(fd: number, key: LockedKey, next: NextLine, report: (message: string) => void): void {
  new Renewal(key, next, report).listen(fd);
}

class Renewal {
  readonly #key: LockedKey;
  readonly #area: Buffer;
  readonly #report: (message: string) => void;
  #filled: number;
  /** The line that is being read was too long, and its rest does not count. */
  #isSkipping = false;

  constructor(key: LockedKey, next: NextLine, report: (message: string) => void) {
    this.#key = key;
    this.#area = next.area;
    this.#filled = next.filled;
    this.#report = report;
    this.#takeLines(0);
  }

  listen(fd: number): void {
    // Node's types know `onread` of `connect` alone; its constructor takes it too.
    const options: SocketConstructorOpts & Pick<ConnectOpts, 'onread'> = {
      fd,
      readable: true,
      writable: false,
      onread: {
        // A function is asked before each read. A plain buffer would be filled from its start each time.
        buffer: () => this.#area.subarray(this.#filled),
        callback: (count) => {
          const before = this.#filled;
          this.#filled += count;
          this.#takeLines(before);
          return true;
        },
      },
    };
    let input: Socket;
    try {
      input = new Socket(options);
    } catch {
      throw notAPipe('something else'); // ERR_INVALID_FD_TYPE
    }
    input.on('error', (error) => this.#report(`cannot read stdin any more: ${reason(error)}`));
    // The descriptor stays open (libuv never closes the lowest three). To put /dev/null in its place would mean to open a file.
    input.once('close', () => this.#end());
    input.unref();
  }

  /** @param from where to look for the next line feed: there is none before */
  #takeLines(from: number): void {
    let begin = 0;
    for (;;) {
      const end = this.#area.subarray(0, this.#filled).indexOf(lineFeed, Math.max(begin, from));
      if (end === -1) break;
      if (this.#isSkipping) this.#isSkipping = false;
      else this.#take(this.#area.subarray(begin, end));
      begin = end + 1;
    }
    this.#discard(begin);
    if (this.#filled === this.#area.length && !this.#isSkipping) {
      this.#isSkipping = true;
      this.#refuse(tooLong);
    }
    if (this.#isSkipping) this.#discard(this.#filled);
  }

  /** Takes the first `count` bytes out of the area, and leaves zeros behind the rest. */
  #discard(count: number): void {
    copyBytes(this.#area.subarray(count, this.#filled), this.#area);
    this.#area.fill(0, this.#filled - count, this.#filled);
    this.#filled -= count;
  }

  #take(line: Buffer): void {
    const parsed = parseKeyLine(line);
    if ('problem' in parsed) return this.#refuse(parsed.problem);
    if (!this.#key.replace(parsed.key)) return this.#report('a key came after the use of the key had ended, and was not taken');
    this.#report('the key was renewed');
  }

  #refuse(problem: KeyProblem): void {
    this.#report(`a line on stdin was refused: it ${problem}; the key in use stays`);
  }

  #end(): void {
    if (this.#filled > 0) this.#report('the last line on stdin was refused: it has no end');
    this.#discard(this.#filled);
    this.#isSkipping = false;
    this.#report('stdin has ended, so no other key will come; the key in use stays');
  }
}

function notAPipe(what: string): Failure {
  return new Failure(`--renewable-key needs a pipe or a socket on stdin, not ${what}`, { hint: pipeHint });
}
