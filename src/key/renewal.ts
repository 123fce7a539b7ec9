import { fstatSync } from 'node:fs';
import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { Failure, reason } from '../run/failure.ts';
import { lineFeed, parseKeyLine, tooLong } from './key-line.ts';
import { type LockedKey, type NextLine, copyBytes } from './locked-key.ts';

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
  const lines = new KeyLines(key, next, report);
  // Node's types know `onread` of `connect` alone; its constructor takes it too.
  const options: SocketConstructorOpts & Pick<ConnectOpts, 'onread'> = {
    fd,
    readable: true,
    writable: false,
    // A function is asked before each read. A plain buffer would be filled from its start each time.
    onread: { buffer: () => lines.free, callback: (count) => lines.take(count) },
  };
  let input: Socket;
  try {
    input = new Socket(options);
  } catch {
    throw notAPipe('something else'); // ERR_INVALID_FD_TYPE
  }
  input.on('error', (error) => report(`cannot read stdin any more: ${reason(error)}`));
  // The descriptor stays open (libuv never closes the lowest three). To put /dev/null in its place would mean to open a file.
  input.once('close', () => lines.end());
  input.unref();
}

/** Lines as they come, in locked memory, and what becomes of each. */
class KeyLines {
  readonly #key: LockedKey;
  readonly #area: Buffer;
  readonly #report: (message: string) => void;
  #filled = 0;
  /** The line that is being read was too long, and its rest does not count. */
  #isSkipping = false;

  constructor(key: LockedKey, { area, filled }: NextLine, report: (message: string) => void) {
    this.#key = key;
    this.#area = area;
    this.#report = report;
    this.take(filled);
  }

  /** Where the next bytes go. */
  get free(): Buffer {
    return this.#area.subarray(this.#filled);
  }

  /** That many bytes have come there. */
  take(count: number): true {
    const isNew = this.#filled; // there is no line feed before
    this.#filled += count;
    let begin = 0;
    for (;;) {
      const end = this.#area.subarray(0, this.#filled).indexOf(lineFeed, Math.max(begin, isNew));
      if (end === -1) break;
      if (this.#isSkipping) this.#isSkipping = false;
      else this.#replace(this.#area.subarray(begin, end));
      begin = end + 1;
    }
    this.#discard(begin);
    if (this.#filled === this.#area.length && !this.#isSkipping) {
      this.#isSkipping = true;
      this.#refuse(tooLong);
    }
    if (this.#isSkipping) this.#discard(this.#filled);
    return true;
  }

  end(): void {
    if (this.#filled > 0) this.#report('the last line on stdin was refused: it has no end');
    this.#discard(this.#filled);
    this.#report('stdin has ended, so no other key will come; the key in use stays');
  }

  /** Takes the first `count` bytes out of the area, and leaves zeros behind the rest. */
  #discard(count: number): void {
    copyBytes(this.#area.subarray(count, this.#filled), this.#area);
    this.#area.fill(0, this.#filled - count, this.#filled);
    this.#filled -= count;
  }

  #replace(line: Buffer): void {
    const parsed = parseKeyLine(line);
    if ('problem' in parsed) this.#refuse(parsed.problem);
    else this.#report(this.#key.replace(parsed.key) ? 'the key was renewed' : 'a key came after the use of the key had ended, and was not taken');
  }

  #refuse(problem: string): void {
    this.#report(`a line on stdin was refused: it ${problem}; the key in use stays`);
  }
}

function notAPipe(what: string): Failure {
  const hint = 'pipe the keys in, one a line, from a program that keeps running';
  return new Failure(`--renewable-key needs a pipe or a socket on stdin, not ${what}`, { hint });
}
