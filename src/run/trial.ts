import { accessSync, closeSync, constants, openSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';

/** The type of /proc in statfs(2). */
const procFileSystem = 0x9fa0;

/**
 * Checks that a file could be made where there is none, and makes nothing.
 *
 * @throws the system's error that making it would bring
 */
export function checkCanCreate(file: string): void {
  checkCanMake(dirname(file), () => closeSync(openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL)));
}

/**
 * Checks that something could be made in a folder.
 *
 * @param make makes it; called only where that is certain to fail
 */
export function checkCanMake(folder: string, make: () => void): void {
  accessSync(folder, constants.W_OK | constants.X_OK);
  // By its modes root may write in /proc, where nothing can be made.
  if (statfsSync(folder).type === procFileSystem) make();
}
