import { accessSync, closeSync, constants, fstatSync, ftruncateSync, openSync, readFileSync, readSync, readdirSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Account } from '../native/native.ts';
import { Failure, reason } from './failure.ts';
import { carefully, create, openExisting } from './written-file.ts';

/** What a client needs to find the daemon, written once it is listening. */
export interface ServerInfo {
  port: number;
  pid: number;
  /** The token that requests must carry, where the daemon issued one. */
  token?: string;
}

/** More than any line of ours has. What is there may be another user's, and of any length. */
const maxLineBytes = 4096;

/** The file of `--server-info`. */
export class ServerInfoFile {
  readonly #file: string;
  readonly #path: string;

  /**
   * @param file as the flag says, for messages
   * @param path by which it is reached: no other user may be able to lead it elsewhere, see `heldPath`
   */
  constructor(file: string, path: string) {
    this.#file = file;
    this.#path = path;
  }

  /**
   * Looks at what is there before anything depends on it, and changes nothing.
   *
   * @param hasToken a token will be in it
   * @throws {Failure} as `write` does
   */
  check(hasToken: boolean, owner: Account | undefined): void {
    this.#inWords(() => {
      const fd = this.#openExisting(hasToken, owner);
      if (fd === undefined) accessSync(dirname(this.#path), constants.W_OK | constants.X_OK);
      else closeSync(fd);
    });
  }

  /** The daemon of ours that the file still names: its process lives, and it listens on the port in the file. */
  liveDaemon(): ServerInfo | undefined {
    try {
      const info = this.#read();
      if (!Number.isInteger(info.pid) || !Number.isInteger(info.port)) return undefined;
      const port = info.port.toString(16).toUpperCase().padStart(4, '0');
      const isListening = new RegExp(`^ *\\d+: 0100007F:${port} [0-9A-F:]+ 0A `, 'm').test(readFileSync('/proc/net/tcp', 'latin1'));
      return isListening && commandLine(info.pid) !== '' ? info : undefined;
    } catch {
      return undefined; // it holds nothing of ours, or its process is gone
    }
  }

  /**
   * Writes one line of JSON, in one write. A regular file that is there already is written in place and keeps owner and
   * mode: codex-action makes it beforehand, in a folder we cannot write to. Anything else there is refused, and so is
   * another user's file in a folder that every user can write, such as /tmp: it may have been planted. A file with a
   * token in it is 0600 and its owner's.
   *
   * @param owner whom a new file is given to; undefined for the daemon's own user
   * @throws {Failure}
   */
  write(info: ServerInfo, owner: Account | undefined): void {
    this.#inWords(() => {
      const hasToken = info.token !== undefined;
      const existing = this.#openExisting(hasToken, owner);
      const fd = existing ?? create(this.#path, constants.O_WRONLY, hasToken ? 0o600 : 0o644, owner);
      try {
        ftruncateSync(fd);
        writeSync(fd, `${JSON.stringify(info)}\n`);
      } catch (error) {
        if (existing === undefined) unlinkSync(this.#path); // a client would find it empty
        throw error;
      } finally {
        closeSync(fd);
      }
    });
  }

  /** Removes the file if it is still ours. That it may be gone, replaced or out of reach by now is no error. */
  remove(pid: number): void {
    try {
      if (this.#read().pid === pid) unlinkSync(this.#path);
    } catch {
      // Not ours to remove.
    }
  }

  /** @throws when it is not there, cannot be opened or holds no JSON */
  #read(): ServerInfo {
    const fd = openSync(this.#path, carefully | constants.O_RDONLY);
    try {
      const line = Buffer.alloc(maxLineBytes);
      return JSON.parse(line.toString('utf8', 0, readSync(fd, line))) as ServerInfo;
    } finally {
      closeSync(fd);
    }
  }

  #openExisting(hasToken: boolean, owner: Account | undefined): number | undefined {
    const fd = openExisting(this.#path, constants.O_WRONLY, owner);
    if (fd === undefined || !hasToken) return fd;
    const { uid, mode } = fstatSync(fd);
    if (uid === (owner?.uid ?? process.geteuid?.()) && (mode & 0o777) === 0o600) return fd;
    closeSync(fd);
    throw new Error('it would hold a token, and is another user\'s, or its mode is not 0600');
  }

  #inWords(action: () => void): void {
    try {
      action();
    } catch (error) {
      throw new Failure(`cannot write --server-info ${this.#file}: ${reason(error)}`, { hint: 'choose another file, or remove what is there' });
    }
  }
}

/** By its command line, which all may read, also that of a process that cannot be traced. */
function commandLine(pid: number): string {
  const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  return line.includes('/dist/main.js\0') ? line : '';
}

/**
 * The other daemon of this user that was started with `--port`, or whose server-info file names the port. The port is
 * not asked: who listens there may be a stranger.
 */
export function daemonOn(port: number): number | undefined {
  return readdirSync('/proc').map(Number).find((pid) => {
    try {
      const isMine = readFileSync(`/proc/${pid}/status`, 'latin1').includes(`\nUid:\t${process.geteuid?.()}\t`);
      const line = isMine && pid !== process.pid ? commandLine(pid) : '';
      const [, file] = /\0--server-info[\0=]([^\0]+)\0/.exec(line) ?? [];
      const named = file === undefined ? undefined : new ServerInfoFile(file, file).liveDaemon();
      return new RegExp(`\0--port[\0=]${port}\0`).test(line) || (named?.pid === pid && named.port === port);
    } catch {
      return false; // no process, or one that has ended
    }
  });
}
