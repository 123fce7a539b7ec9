import { fstatSync } from 'node:fs';
import { type ConnectOpts, type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { Failure, reason } from '../run/failure.ts';

/**
 * Checks that lines can still come on `fd`. A regular file delivers all lines at once, so only the last key would be used.
 *
 * @throws {Failure} unless it is a pipe or a socket; a terminal passes, for the key's reader to refuse
 */
export function checkRenewable(fd: number): void {
  const kind = fstatSync(fd);
  if (kind.isFIFO() || kind.isSocket() || kind.isCharacterDevice()) return;
  throw notAPipe(kind.isFile() ? 'a file' : 'something else');
}

/**
 * `--renewable-key`: reads on, for as long as the daemon runs. libuv reads straight into locked memory, which node's `onread`
 * makes possible.
 *
 * @param lines what becomes of the bytes (`../key/key-lines.ts`)
 * @param report told why nothing more can be read
 * @throws {Failure} when `fd` is neither a pipe nor a stream socket
 */
export function readOn(fd: number, lines: { readonly onread: OnReadOpts; end(): void }, report: (message: string) => void): void {
  // Node's types know `onread` of `connect` alone; its constructor takes it too.
  const options: SocketConstructorOpts & Pick<ConnectOpts, 'onread'> = {
    fd,
    readable: true,
    writable: false,
    // Its function is asked before each read. A plain buffer would be filled from its start each time.
    onread: lines.onread,
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

function notAPipe(what: string): Failure {
  const hint = 'pipe the keys in, one a line, from a program that keeps running';
  return new Failure(`--renewable-key needs a pipe or a socket on stdin, not ${what}`, { hint });
}
