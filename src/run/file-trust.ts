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
 * Whether its mode lets others than its owner write. The daemon's own group does not count: where each user has a
 * private group, a umask of 002 is common. An ACL that lets others write shows as the group's right.
 */
function isWritableByOthers({ mode, gid }: Stats): boolean {
  return (mode & othersWrite) !== 0 || ((mode & groupWrites) !== 0 && gid !== process.getegid?.());
}

/**
 * Who besides root and the daemon's own user can change a file, or replace what is in a folder; undefined if no other user can.
 * A sticky folder passes: others can add to it, but what is ours in there they can neither remove nor rename.
 *
 * @param isStrict whether a group counts too that is the daemon's own
 * @returns in words, to follow `can be changed by`
 */
export function otherWriter(stats: Stats, isStrict: boolean): string | undefined {
  const { uid, gid, mode } = stats;
  if (!isOurs(stats)) return `another user (uid ${uid})`;
  if (stats.isDirectory() && isSticky(stats)) return undefined;
  if ((mode & othersWrite) !== 0) return 'any user';
  if ((mode & groupWrites) !== 0 && (isStrict || isWritableByOthers(stats))) return `another user (of group ${gid})`;
  return undefined;
}
