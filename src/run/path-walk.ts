import { type Stats, closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isOurs, isSticky, isWritableByOthers } from './file-trust.ts';

/** open(2): a descriptor that names a place and grants nothing. Node has no constant for it; Linux has one number on x64 and arm64. */
export const openPath = 0x20_0000;

const folderFlags = openPath | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** As many links as the kernel follows in one path, path_resolution(7). */
const maxLinks = 40;

/** Where a file is or will be: its folder, held open, and its name in there. */
export interface Place {
  /** An O_PATH descriptor: it stays this folder, even if something on the way there is moved or replaced. The caller's to close. */
  readonly folder: number;
  readonly name: string;
  /** The path for messages, with the links resolved. */
  readonly path: string;
}

/** The path of a place for system calls. The kernel takes /proc/self/fd/N for the open folder itself, not for its path. */
export function pathOf({ folder, name }: Pick<Place, 'folder' | 'name'>): string {
  return `/proc/self/fd/${folder}/${name}`;
}

export interface WalkOptions {
  /** Missing folders are made, 0755 less the umask. */
  readonly makesFolders?: boolean;
  /** The file itself may be a link too. */
  readonly followsLast?: boolean;
  /** Links are followed by the kernel's rule for links in folders such as /tmp, see `isFollowedByKernel`: enough for a process that is not root. */
  readonly followsAsKernel?: boolean;
  /** Called for each folder, also those that hold a link, before anything is looked up in it. */
  readonly onFolder?: (folder: Stats, path: string) => void;
}

/** A link on the way that another user could have made, or could change. */
export class UntrustedLink extends Error {
  constructor(path: string) {
    super(`${path} is a symbolic link that another user can change`);
  }
}

/**
 * Walks to a file's folder, one name at a time, with each folder held open: no other user can redirect the walk by
 * replacing a part of the path. A link is followed only if it and the folder that it is in belong to root or to the
 * daemon's user, and no other user can replace it there; with `followsAsKernel` others' links are, too.
 *
 * @throws {UntrustedLink} or another Error, of the system's or in words
 */
export function walkTo(file: string, options: WalkOptions = {}): Place {
  if (isFolderName(file.split('/').at(-1))) throw new Error('it names a folder');
  const walk = new Walk(options.onFolder);
  try {
    walk.follow(file);
    for (;;) {
      const { place, isLast } = walk.next();
      if (isLast && options.followsLast !== true) return place;
      const folder = isLast ? undefined : openFolder(place, options.makesFolders ?? false);
      if (folder !== undefined) {
        walk.enter(folder, place.path);
        continue;
      }
      const link = lstatSync(pathOf(place));
      if (!link.isSymbolicLink()) {
        if (isLast) return place;
        throw new Error(`${place.path} is not a folder`);
      }
      const mayFollow = options.followsAsKernel === true ? isFollowedByKernel : isTrusted;
      if (!mayFollow(link, fstatSync(place.folder))) throw new UntrustedLink(place.path);
      walk.follow(readlinkSync(pathOf(place))); // where it counts, no other user can have changed it since
    }
  } catch (error) {
    walk.close();
    throw error;
  }
}

/** How far the walk has come, and which names are still before it. */
class Walk {
  readonly #onFolder: WalkOptions['onFolder'];
  #folder: number | undefined;
  #path = '';
  #names: string[] = [];
  #links = -1;

  constructor(onFolder: WalkOptions['onFolder']) {
    this.#onFolder = onFolder;
  }

  /** Goes on with the names of `path`, which is that of the file or that in a link, and then with those that are left. */
  follow(path: string): void {
    if (++this.#links > maxLinks) throw new Error('it leads through too many symbolic links');
    this.#names.unshift(...path.split('/'));
    if (path.startsWith('/')) this.enter(openSync('/', folderFlags), '/');
    else if (this.#folder === undefined) this.enter(openSync('.', folderFlags), '');
  }

  enter(folder: number, path: string): void {
    this.close();
    this.#folder = folder;
    this.#path = path;
    this.#onFolder?.(fstatSync(folder), path);
  }

  next(): { place: Place; isLast: boolean } {
    let name: string | undefined;
    do name = this.#names.shift();
    while (name === '' || name === '.');
    const isLast = this.#names.every((later) => later === '' || later === '.');
    if (this.#folder === undefined || name === undefined || (isLast && name === '..')) throw new Error('it names a folder');
    return { place: { folder: this.#folder, name, path: join(this.#path, name) }, isLast };
  }

  close(): void {
    if (this.#folder !== undefined) closeSync(this.#folder);
    this.#folder = undefined;
  }
}

function isFolderName(name: string | undefined): boolean {
  return name === undefined || name === '' || name === '.' || name === '..';
}

/** Opens a folder; undefined where something else is there. Keep O_DIRECTORY: it makes autofs mount the folder. */
function openFolder(place: Place, makesFolders: boolean): number | undefined {
  try {
    return openSync(pathOf(place), folderFlags);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    if (code !== 'ENOENT' || makesFolders === false) throw error;
  }
  try {
    mkdirSync(pathOf(place), 0o755);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // else it was made meanwhile, and is checked like every other
  }
  return openFolder(place, false);
}

/**
 * In a sticky folder such as /tmp others cannot replace a link of ours. But they can give one from elsewhere a second
 * name there, where fs.protected_hardlinks is 0; so it must have one name. (Secrets in Kubernetes are such links.)
 */
function isTrusted(link: Stats, folder: Stats): boolean {
  if (!isOurs(link) || !isOurs(folder)) return false;
  return !isWritableByOthers(folder) || (isSticky(folder) && link.nlink === 1);
}

/** As with fs.protected_symlinks (proc_sys_fs(5)), which readlink(2) bypasses: in a sticky folder that all may write, only one's own links and its owner's. */
function isFollowedByKernel(link: Stats, folder: Stats): boolean {
  return !isSticky(folder) || (folder.mode & constants.S_IWOTH) === 0 || link.uid === process.geteuid?.() || link.uid === folder.uid;
}
