import { lstatSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { otherWriter } from './file-trust.ts';

/** The package's, read while the process may still read everything. */
export const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

/**
 * Who besides root and the daemon's user can change the program: its first file, or a folder that leads to it. Its path has
 * no links left: launcher and node have resolved them.
 *
 * @returns in words, for the topmost; undefined if no other user can
 */
export function installationExposure(path = fileURLToPath(new URL('../main.js', import.meta.url))): string | undefined {
  const above = path === '/' ? undefined : installationExposure(dirname(path));
  if (above !== undefined) return above;
  try {
    const writer = otherWriter(lstatSync(path), false);
    return writer && `${path} can be changed by ${writer}`;
  } catch {
    return undefined; // it could be loaded, so it is there; what cannot be looked at is no reason not to serve
  }
}
