import { closeSync, constants, fstatSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Account } from '../native/native.ts';
import { Failure, reason } from '../run/failure.ts';
import { isPlanted } from '../run/file-trust.ts';
import { openToAppend, tryToAppend } from './append-only-file.ts';

const fileHint = 'name a file in a folder that exists; a link is not followed';

/**
 * Opens the file of `--log-file`, to write to its end. A new file is 0600.
 *
 * @param owner the user who must be able to reopen it after a rotation; undefined for the daemon's own
 * @throws {Failure} when it cannot be opened, or is not a regular file
 */
export function openLogFile(file: string, owner: Account | undefined): number {
  return regular(file, owner, () => openToAppend(file, constants.O_WRONLY, owner));
}

/**
 * Checks that a log could go on in a file, and makes none.
 *
 * @throws {Failure} as `openLogFile` does
 */
export function checkLogFile(file: string, owner: Account | undefined): void {
  const fd = regular(file, owner, () => tryToAppend(file, constants.O_WRONLY));
  if (fd !== 'new') closeSync(fd);
}

function regular<T extends number | 'new'>(file: string, owner: Account | undefined, open: () => T | undefined): T {
  const refuse = (problem: string): Failure => new Failure(`cannot open --log-file ${file}: ${problem}`, { hint: fileHint });
  let fd: T | undefined;
  try {
    fd = open();
  } catch (error) {
    throw refuse(reason(error));
  }
  if (fd === undefined) throw refuse('it is not a regular file');
  if (typeof fd === 'number' && isPlanted(fstatSync(fd), statSync(dirname(file)), owner)) {
    closeSync(fd);
    throw refuse('it belongs to another user, in a folder that every user can write');
  }
  return fd;
}
