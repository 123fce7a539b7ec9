/** Opens the files that the daemon writes, by a path that no other user can lead elsewhere (see `heldPath`). */
import { closeSync, constants, fchownSync, fstatSync, openSync, statSync, unlinkSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Account } from '../native/native.ts';
import { isPlanted } from './file-trust.ts';

/**
 * The path of a flag's file by its folder, which the starter found and holds open (`../native/starter_folders.c`): no other
 * user can lead it elsewhere. The kernel takes /proc/self/fd/N for the open folder itself, wherever that has gone.
 */
export function heldPath(flag: '--server-info' | '--audit-log', file: string): string {
  return `/proc/self/fd/${process.env[`RESPONSES_API_PROXY_FOLDER_OF_${flag}`]}/${basename(file)}`;
}

/** Never by a link, and O_NONBLOCK, because opening a FIFO without a reader would wait for ever. */
export const carefully = constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

const notRegular = 'it is not a regular file';

/** What these errors of open(2) mean here. */
const meanings: Readonly<Record<string, string>> = { ELOOP: 'it is a symbolic link', ENXIO: notRegular };

/**
 * Opens a file that is there. Without O_CREAT: in a sticky folder that refuses even root to open another user's file
 * (fs.protected_regular).
 *
 * @param owner whose it may be besides ours
 * @returns its descriptor, or undefined if there is none
 * @throws the system's error, or one in words: it is no regular file, has another name, or may have been planted
 */
export function openExisting(path: string, flags: number, owner: Account | undefined): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, flags | carefully);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw meanings[code] === undefined ? error : new Error(meanings[code]);
  }
  const stats = fstatSync(fd);
  if (stats.isFile() && stats.nlink === 1 && !isPlanted(stats, statSync(dirname(path)), owner)) return fd;
  closeSync(fd);
  if (!stats.isFile()) throw new Error(notRegular);
  throw new Error(stats.nlink === 1 ? `it belongs to another user (uid ${stats.uid}), in a folder that every user can write` : 'it has more than one name');
}

/**
 * Makes a file. It gets its mode from a umask, because a serving daemon may not call fchmod (`../native/serving_filter.c`).
 *
 * @param owner whom it is given to; undefined for the daemon's own user
 * @returns its descriptor
 * @throws the system's error
 */
export function create(path: string, flags: number, mode: number, owner: Account | undefined): number {
  const umask = process.umask(0o777 & ~mode);
  let fd: number;
  try {
    fd = openSync(path, flags | carefully | constants.O_CREAT | constants.O_EXCL, mode);
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
