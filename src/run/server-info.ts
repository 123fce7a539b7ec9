import { type Stats, accessSync, closeSync, constants, fchmodSync, fchownSync, fstatSync, ftruncateSync, openSync, readFileSync, readSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Account } from '../native/native.ts';
import { Failure, reason } from './failure.ts';
import { isPlanted } from './file-trust.ts';

/** What a client needs to find the daemon, written once it is listening. */
export interface ServerInfo {
  port: number;
  pid: number;
  /** The token that requests must carry, where the daemon issued one. */
  token?: string;
}

/** O_NONBLOCK, because opening a FIFO without a reader would wait for ever. */
const openFlags = constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

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
      if (fd !== undefined) closeSync(fd);
      else accessSync(dirname(this.#path), constants.W_OK | constants.X_OK);
    });
  }

  /** The daemon of ours that the file still names: its process lives, and it listens on the port in the file. */
  liveDaemon(): ServerInfo | undefined {
    try {
      const info = this.#read();
      if (info === undefined || !Number.isInteger(info.pid) || !Number.isInteger(info.port)) return undefined;
      // Both are open to all, also those of a process that cannot be traced.
      const isOurs = /\/dist\/main\.js\0/.test(readFileSync(`/proc/${info.pid}/cmdline`, 'latin1'));
      const port = info.port.toString(16).toUpperCase().padStart(4, '0');
      const isListening = new RegExp(`^ *\\d+: 0100007F:${port} [0-9A-F:]+ 0A `, 'm').test(readFileSync('/proc/net/tcp', 'latin1'));
      return isOurs && isListening ? info : undefined;
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
      const existing = this.#openExisting(info.token !== undefined, owner);
      const fd = existing ?? this.#create(info, owner);
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
      if (this.#read()?.pid === pid) unlinkSync(this.#path);
    } catch {
      // Not ours to remove.
    }
  }

  /** @throws when it is not there, cannot be opened or holds no JSON */
  #read(): ServerInfo | undefined {
    const fd = openSync(this.#path, openFlags | constants.O_RDONLY);
    try {
      if (!fstatSync(fd).isFile()) return undefined;
      const line = Buffer.alloc(maxLineBytes);
      return JSON.parse(line.toString('utf8', 0, readSync(fd, line))) as ServerInfo;
    } finally {
      closeSync(fd);
    }
  }

  #openExisting(hasToken: boolean, owner: Account | undefined): number | undefined {
    let fd: number;
    try {
      // Without O_CREAT: in a sticky folder that refuses even root to open another user's file (fs.protected_regular).
      fd = openSync(this.#path, openFlags | constants.O_WRONLY);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    const refusal = unfit(fstatSync(fd), statSync(dirname(this.#path)), hasToken, owner);
    if (refusal !== undefined) {
      closeSync(fd);
      throw this.#failure(refusal);
    }
    return fd;
  }

  #inWords(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (error instanceof Failure) throw error;
      throw this.#failure(openProblem(error));
    }
  }

  #create(info: ServerInfo, owner: Account | undefined): number {
    const mode = info.token === undefined ? 0o644 : 0o600;
    const fd = openSync(this.#path, openFlags | constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, mode);
    try {
      fchmodSync(fd, mode); // under any umask
      if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
    } catch (error) {
      closeSync(fd);
      unlinkSync(this.#path);
      throw error;
    }
    return fd;
  }

  #failure(problem: string, hint = 'choose another file, or remove what is there'): Failure {
    return new Failure(`cannot write --server-info ${this.#file}: ${problem}`, { hint });
  }
}

function unfit(stats: Stats, folder: Stats, hasToken: boolean, owner: Account | undefined): string | undefined {
  if (!stats.isFile()) return 'what is there is not a regular file';
  if (stats.nlink !== 1) return 'what is there has more than one name';
  if (isPlanted(stats, folder, owner)) return `what is there belongs to another user (uid ${stats.uid}), in a folder that every user can write`;
  if (!hasToken) return undefined;
  if (stats.uid !== (owner?.uid ?? process.geteuid?.())) return 'it would hold a token, and belongs to another user';
  if ((stats.mode & 0o777) !== 0o600) return 'it would hold a token, and its mode is not 0600';
  return undefined;
}

function openProblem(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ELOOP') return 'what is there is a symbolic link';
  if (code === 'ENXIO') return 'what is there is not a regular file';
  return reason(error);
}
