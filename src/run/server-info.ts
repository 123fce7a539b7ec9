import {
  type Stats,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import type { Account } from '../native/native.ts';
import { Failure, reason } from './failure.ts';

/** What a client needs to find the daemon, written once it is listening. */
export interface ServerInfo {
  port: number;
  pid: number;
  /** The token that requests must carry, where the daemon issued one. */
  token?: string;
}

/** O_NONBLOCK, because opening a FIFO that nobody reads would wait for ever. */
const openFlags = constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Writes one line of JSON, in one write. A regular file that is there already is written in place and keeps owner and
 * mode: codex-action makes it beforehand, in a folder we cannot write to. Anything else there is refused, for in a
 * folder like /tmp a stranger may have planted it. A file with a token in it is 0600 and its owner's.
 *
 * @param owner whom a new file is given to; undefined for the daemon's own user
 * @throws {Failure}
 */
export function writeServerInfo(file: string, info: ServerInfo, owner: Account | undefined): void {
  try {
    const fd = openExisting(file, info, owner) ?? create(file, info, owner);
    try {
      writeSync(fd, `${JSON.stringify(info)}\n`);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(`cannot write --server-info ${file}: ${openProblem(error)}`, { hint: 'choose another file, or remove what is there' });
  }
}

/** The daemon of ours that a file still names: its process lives, and it listens on the port in the file. */
export function liveDaemonIn(file: string): ServerInfo | undefined {
  try {
    const info = readServerInfo(file);
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

/** Removes the file if it is still ours. That it may be gone, replaced or out of reach by now is no error. */
export function removeServerInfo(file: string, pid: number): void {
  try {
    if (readServerInfo(file)?.pid !== pid) return;
    unlinkSync(file);
  } catch {
    // Not ours to remove.
  }
}

/** @throws when it is not there, cannot be opened or holds no JSON */
function readServerInfo(file: string): ServerInfo | undefined {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    return fstatSync(fd).isFile() ? (JSON.parse(readFileSync(fd, 'utf8')) as ServerInfo) : undefined;
  } finally {
    closeSync(fd);
  }
}

function openExisting(file: string, info: ServerInfo, owner: Account | undefined): number | undefined {
  let fd: number;
  try {
    // Without O_CREAT: in a sticky folder that refuses even root to open a stranger's file (fs.protected_regular).
    fd = openSync(file, openFlags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const refusal = unfit(fstatSync(fd), info, owner);
  if (refusal !== undefined) {
    closeSync(fd);
    throw new Failure(`cannot write --server-info ${file}: ${refusal}`, { hint: 'choose another file, or remove what is there' });
  }
  ftruncateSync(fd);
  return fd;
}

function unfit(stats: Stats, info: ServerInfo, owner: Account | undefined): string | undefined {
  if (!stats.isFile()) return 'what is there is not a regular file';
  if (stats.nlink !== 1) return 'what is there has more than one name';
  if (info.token === undefined) return undefined;
  if (stats.uid !== (owner?.uid ?? process.geteuid?.())) return 'it would hold a token, and belongs to another user';
  if ((stats.mode & 0o777) !== 0o600) return 'it would hold a token, and its mode is not 0600';
  return undefined;
}

function create(file: string, info: ServerInfo, owner: Account | undefined): number {
  makeFolder(dirname(file));
  const mode = info.token === undefined ? 0o644 : 0o600;
  const fd = openSync(file, openFlags | constants.O_CREAT | constants.O_EXCL, mode);
  try {
    fchmodSync(fd, mode); // whatever the umask
    if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
  } catch (error) {
    closeSync(fd);
    unlinkSync(file);
    throw error;
  }
  return fd;
}

/** Makes a folder and its parents. Not by mkdir's `recursive`: on Node 20 that never returns where /proc is among them. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, 0o755);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(folder) === folder) throw error;
    makeFolder(dirname(folder));
    mkdirSync(folder, 0o755);
  }
}

function openProblem(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ELOOP') return 'what is there is a symbolic link';
  if (code === 'ENXIO') return 'what is there is not a regular file';
  return reason(error);
}
