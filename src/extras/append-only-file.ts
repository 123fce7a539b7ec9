import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';
import type { Account } from '../native/native.ts';
import { checkCanCreate } from '../run/trial.ts';

const appending = constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * Opens a file for appending, and creates it if it is missing: with mode 0600 under any umask. Follows no link, and does
 * not wait for the reader of a FIFO.
 *
 * @param access O_WRONLY or O_RDWR
 * @param owner of a new file; undefined for the daemon's own user
 * @returns its descriptor; undefined if it is not a regular file
 * @throws the system's error; ELOOP for a link
 */
export function openToAppend(file: string, access: number, owner: Account | undefined): number | undefined {
  return ifRegular(openExistingOrNew(file, access | appending, owner));
}

/**
 * Opens a file as `openToAppend` does, but creates none.
 *
 * @returns its descriptor; 'new' if `openToAppend` would create it; undefined if it is not a regular file
 * @throws what `openToAppend` would throw
 */
export function tryToAppend(file: string, access: number): number | 'new' | undefined {
  try {
    return ifRegular(openSync(file, access | appending));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  checkCanCreate(file);
  return 'new';
}

function ifRegular(fd: number): number | undefined {
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  return undefined;
}

function openExistingOrNew(file: string, flags: number, owner: Account | undefined): number {
  try {
    // Without O_CREAT: in a sticky folder that refuses even root to open another user's file (fs.protected_regular).
    return openSync(file, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const fd = create(file, flags);
  if (owner !== undefined && owner.uid !== process.geteuid?.()) fchownSync(fd, owner.uid, owner.gid);
  return fd;
}

/** Gets its mode from a umask, because a serving daemon may not call fchmod (`../native/serving_filter.c`). */
function create(file: string, flags: number): number {
  const umask = process.umask(0o177);
  try {
    return openSync(file, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
  } finally {
    process.umask(umask);
  }
}
