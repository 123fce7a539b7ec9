import { type Stats, constants } from 'node:fs';
import type { Account } from '../native/native.ts';

/** Who may write a file or folder besides its owner; node has constants for these, but not for the sticky bit. */
const { S_IWGRP: groupWrites, S_IWOTH: othersWrite } = constants;
const stickyBit = 0o1000;

/** Whether it is root's or the daemon's own user's. */
export function isOurs({ uid }: Stats): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

/**
 * Whether a file may have been planted: it is another user's, in a folder that every user can write. The
 * kernel's fs.protected_regular covers only sticky folders, and may be off.
 *
 * @param owner whose it may be besides ours
 */
export function isPlanted(file: Stats, folder: Stats, owner: Account | undefined): boolean {
  return (folder.mode & othersWrite) !== 0 && !isOurs(file) && file.uid !== owner?.uid;
}

/** Whether others can neither remove nor rename what is ours in a folder, though they may add to it. */
export function isSticky({ mode }: Stats): boolean {
  return (mode & stickyBit) !== 0;
}

/**
 * Who besides root and the daemon's own user can change a file, or replace what is in a folder (see `isSticky`). An ACL that
 * lets others write shows as the group's right.
 *
 * @param isStrict whether the daemon's own group counts: where each user has a private one, a umask of 002 is common
 * @returns in words, to follow `can be changed by`; undefined if no other user can
 */
export function otherWriter(stats: Stats, isStrict: boolean): string | undefined {
  const { uid, gid, mode } = stats;
  if (!isOurs(stats)) return `another user (uid ${uid})`;
  if (stats.isDirectory() && isSticky(stats)) return undefined;
  if ((mode & othersWrite) !== 0) return 'any user';
  if ((mode & groupWrites) !== 0 && (isStrict || gid !== process.getegid?.())) return `another user (of group ${gid})`;
  return undefined;
}
