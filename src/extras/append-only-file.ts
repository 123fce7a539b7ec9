import { type Stats, closeSync, constants, fchownSync, fstatSync, openSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Account } from '../native/native.ts';
import { isPlanted } from '../run/file-trust.ts';

const appending = constants.O_RDWR | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

const notRegular = 'it is not a regular file';

/** What these errors of open(2) mean here, where it follows no link and waits for nobody. */
const meanings: Readonly<Record<string, string>> = { ELOOP: 'it is a symbolic link', ENXIO: notRegular };

/**
 * Opens a file for reading and appending, and creates it if it is missing: with mode 0600 under any umask. The file itself
 * is never a link. Does not wait for the reader of a FIFO.
 *
 * @param file by a path that no other user can lead elsewhere, see `heldPath`
 * @param owner of a new file; undefined for the daemon's own user
 * @returns its descriptor
 * @throws the system's error, or one in words: it is no regular file, has another name, or another user made it or can write to it
 */
export function openToAppend(file: string, owner: Account | undefined): number {
  let fd = -1;
  try {
    fd = openExisting(file) ?? create(file, owner);
    const problem = problemOf(fstatSync(fd), statSync(dirname(file)), owner);
    if (problem !== undefined) throw new Error(problem);
    return fd;
  } catch (error) {
    if (fd !== -1) closeSync(fd);
    const meaning = meanings[(error as NodeJS.ErrnoException).code ?? ''];
    throw meaning === undefined ? error : new Error(meaning);
  }
}

/** Without O_CREAT: in a sticky folder that refuses even root to open another user's file (fs.protected_regular). */
function openExisting(path: string): number | undefined {
  try {
    return openSync(path, appending);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}

function problemOf(file: Stats, folder: Stats, owner: Account | undefined): string | undefined {
  if (!file.isFile()) return notRegular;
  if (file.nlink !== 1) return 'it has more than one name';
  if (isPlanted(file, folder, owner)) return 'it belongs to another user, in a folder that every user can write';
  if (file.uid !== owner?.uid && file.uid !== process.geteuid?.()) return 'it belongs to another user';
  return (file.mode & 0o022) === 0 ? undefined : 'others may write to it';
}

/** Gets its mode from a umask, because a serving daemon may not call fchmod (`../native/serving_filter.c`). */
function create(path: string, owner: Account | undefined): number {
  const umask = process.umask(0o177);
  let fd: number;
  try {
    fd = openSync(path, appending | constants.O_CREAT | constants.O_EXCL, 0o600);
  } finally {
    process.umask(umask);
  }
  try {
    if (owner !== undefined && owner.uid !== process.geteuid?.()) fchownSync(fd, owner.uid, owner.gid);
    return fd;
  } catch (error) {
    closeSync(fd);
    unlinkSync(path);
    throw error;
  }
}
