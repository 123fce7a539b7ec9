import { type Stats, closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Failure, reason } from '../run/failure.ts';
import { isOurs, isSticky, otherWriter } from '../run/file-trust.ts';

/** What a shell hands over for `<(command)`: a descriptor, to which no folder leads. */
const descriptorPath = /^\/(dev|proc\/self)\/fd\/\d+$/;

/** As many links as the kernel follows in one path, path_resolution(7). */
const maxLinks = 40;

/**
 * Reads a file that says who may use the key, and for what. It is refused where a user other than root and the daemon's
 * can change the file, a folder that leads to it, or a link on the way. Group write access is refused for
 * any group, as sshd does: who is in it today or tomorrow takes more than a look at its number.
 *
 * @param flag for the message, with its dashes
 * @throws {Failure}
 */
export function readTrustedFile(flag: string, file: string): string {
  const subject = `${flag} ${file}`;
  let descriptor: number | undefined;
  try {
    descriptor = openSync(descriptorPath.test(file) ? file : resolveTrusted(subject, file), constants.O_RDONLY | constants.O_NOCTTY);
    check(subject, fstatSync(descriptor), file);
    return readFileSync(descriptor, 'utf8');
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(`cannot read ${subject}: ${reason(error)}`, { hint: 'it is read once, at start, by the user who starts the daemon' });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/**
 * Follows a path from the top, also where it is relative: someone who can rename the current folder could redirect the next
 * start. Each folder is checked before anything is looked up in it, so nobody can replace what was found there.
 *
 * @param subject flag and file, for the message
 * @returns the file's path without links
 * @throws {Failure} where another user can change something, or an error of the system's
 */
function resolveTrusted(subject: string, file: string): string {
  const names = resolve(file).split('/');
  let path = '/';
  let links = 0;
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    const folder = lstatSync(path);
    check(subject, folder, path);
    const next = join(path, name);
    const stats = lstatSync(next);
    if (!stats.isSymbolicLink()) {
      path = next;
      continue;
    }
    // In a sticky folder others can give a link of ours from elsewhere a second name (fs.protected_hardlinks=0).
    const isTrusted = isOurs(stats) && (!isSticky(folder) || stats.nlink === 1);
    if (!isTrusted) throw new Failure(`${subject}: ${next} is a symbolic link that another user can change`, { hint: 'name the file that it leads to' });
    if (++links > maxLinks) throw new Error('it leads through too many symbolic links');
    const target = readlinkSync(next);
    names.unshift(...target.split('/'));
    if (target.startsWith('/')) path = '/';
  }
  check(subject, lstatSync(path), file); // before it is opened: to open another user's FIFO would wait for that user
  return path;
}

/** @throws {Failure} where another user can change it */
function check(subject: string, stats: Stats, path: string): void {
  const writer = otherWriter(stats, true);
  if (writer === undefined) return;
  const hint = isOurs(stats) ? `take the right to write from others: chmod go-w ${path}` : `give it to the user who starts the daemon, or to root: chown root ${path}`;
  throw new Failure(`${subject}: ${path} can be changed by ${writer}`, { hint });
}
