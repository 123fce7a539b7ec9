import { lstatSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { otherWriter } from './file-trust.ts';

/** The package's, read while the process may still read everything. */
export const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

/**
 * Who besides root and the daemon's user can change the program: a folder that leads to it, or its first file. Its path has
 * no links left: launcher and node have resolved them.
 *
 * @returns in words; undefined if no other user can
 */
export function installationExposure(): string | undefined {
  const names = fileURLToPath(new URL('../main.js', import.meta.url)).split('/');
  for (const depth of names.keys()) {
    const path = names.slice(0, depth + 1).join('/') || '/';
    const writer = writerOf(path);
    if (writer !== undefined) return `${path} can be changed by ${writer}`;
  }
  return undefined;
}

function writerOf(path: string): string | undefined {
  try {
    return otherWriter(lstatSync(path), false);
  } catch {
    return undefined; // it could be loaded, so it is there; what cannot be looked at is no reason not to serve
  }
}
