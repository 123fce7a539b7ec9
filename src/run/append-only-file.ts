import { closeSync, constants, fchmodSync, fchownSync, fstatSync, openSync } from 'node:fs';
import { checkCanCreate } from './trial.ts';
import type { Account } from '../native/native.ts';

const appending = constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * Opens a file to append to it, or makes it, 0600 whatever the umask. A link is not followed, a FIFO not waited for.
 *
 * @param access O_WRONLY or O_RDWR
 * @param owner whom a new file is given to; undefined for the daemon's own user
 * @returns its descriptor; undefined where it is no regular file
 * @throws the system's error; ELOOP for a link
 */
export function openToAppend(file: string, access: number, owner: Account | undefined): number | undefined {
  return ifRegular(openExistingOrNew(file, access | appending, owner));
}

/**
 * Opens a file as `openToAppend` does, but makes none.
 *
 * @returns its descriptor; 'new' where `openToAppend` would make it; undefined where it is no regular file
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
    // Without O_CREAT: in a sticky folder that refuses even root to open a stranger's file (fs.protected_regular).
    return openSync(file, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const fd = openSync(file, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
  fchmodSync(fd, 0o600);
  if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
  return fd;
}
