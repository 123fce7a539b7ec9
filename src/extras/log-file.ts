import { closeSync, constants } from 'node:fs';
import type { Account } from '../native/native.ts';
import { Failure, reason } from '../run/failure.ts';
import { UntrustedLink } from '../run/path-walk.ts';
import { openToAppend, tryToAppend } from './append-only-file.ts';

/**
 * Opens the file of `--log-file`, to write to its end. A new file is 0600.
 *
 * @param owner the user who must be able to reopen it after a rotation; undefined for the daemon's own
 * @throws {Failure} when it cannot be opened, or is none to be written to
 */
export function openLogFile(file: string, owner: Account | undefined): number {
  return inWords(file, () => openToAppend(file, constants.O_WRONLY, owner));
}

/**
 * Checks that a log could go on in a file, and makes none.
 *
 * @throws {Failure} as `openLogFile` does
 */
export function checkLogFile(file: string, owner: Account | undefined): void {
  const fd = inWords(file, () => tryToAppend(file, constants.O_WRONLY, owner));
  if (fd !== 'new') closeSync(fd);
}

function inWords<T>(file: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const hint = error instanceof UntrustedLink ? 'name the folder that it leads to' : 'name a regular file, not a link, in a folder that exists';
    throw new Failure(`cannot open --log-file ${file}: ${reason(error)}`, { hint });
  }
}
