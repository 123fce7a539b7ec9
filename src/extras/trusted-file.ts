import { type Stats, closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { Failure, reason } from '../run/failure.ts';
import { isOurs, otherWriter } from '../run/file-trust.ts';
import { UntrustedLink, openPath, pathOf, walkTo } from '../run/path-walk.ts';

/** What a shell hands over for `<(command)`: a descriptor, to which no folder leads. */
const descriptorPath = /^\/(dev|proc\/self)\/fd\/\d+$/;

/** A file or folder that another user can change. */
class Exposed extends Error {
  readonly hint: string;

  constructor(path: string, writer: string, hint: string) {
    super(`${path} can be changed by ${writer}`);
    this.hint = hint;
  }
}

/**
 * Reads a file that says who may use the key, and for what. It is refused where a user other than root and the daemon's
 * can change the file, a folder that leads to it, or a link on the way. Group write access is refused for
 * any group, as sshd does: who is in it today or tomorrow takes more than a look at its number.
 *
 * @param flag for the message, with its dashes
 * @throws {Failure}
 */
export function readTrustedFile(flag: string, file: string): string {
  let descriptor: number | undefined;
  try {
    descriptor = descriptorPath.test(file) ? openSync(file, constants.O_RDONLY) : openTrusted(file);
    check(fstatSync(descriptor), file);
    return readFileSync(descriptor, 'utf8');
  } catch (error) {
    if (error instanceof Exposed) throw new Failure(`${flag} ${file}: ${error.message}`, { hint: error.hint });
    const hint = error instanceof UntrustedLink ? 'name the file that it leads to' : 'it is read once, at start, by the user who starts the daemon';
    throw new Failure(`cannot read ${flag} ${file}: ${reason(error)}`, { hint });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function openTrusted(file: string): number {
  // From the top, also where the path is relative: someone who can rename the current folder could redirect the next start.
  const place = walkTo(isAbsolute(file) ? file : `${process.cwd()}/${file}`, { followsLast: true, onFolder: (folder, path) => check(folder, path) });
  let found: number | undefined;
  try {
    // It is looked at before it is opened: to open another user's FIFO would wait for that user.
    found = openSync(pathOf(place), openPath | constants.O_NOFOLLOW);
    check(fstatSync(found), file);
    return openSync(`/proc/self/fd/${found}`, constants.O_RDONLY | constants.O_NOCTTY);
  } finally {
    closeSync(place.folder);
    if (found !== undefined) closeSync(found);
  }
}

/** @throws {Exposed} */
function check(stats: Stats, path: string): void {
  const writer = otherWriter(stats, true);
  if (writer === undefined) return;
  throw new Exposed(path, writer, isOurs(stats) ? `take the right to write from others: chmod go-w ${path}` : `give it to the user who starts the daemon, or to root: chown root ${path}`);
}
