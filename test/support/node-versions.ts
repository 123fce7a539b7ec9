import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { scratchFolder } from './scratch.ts';

const run = promisify(execFile);

const installTimeoutMs = 120_000;

/** The path of a node binary of this major version: the running one, or one from the npm registry; or why there is none. */
export async function nodeOfVersion(major: number): Promise<{ readonly path: string } | { readonly missing: string }> {
  if (process.versions.node.startsWith(`${major}.`)) return { path: process.execPath };
  const architecture = process.arch === 'x64' || process.arch === 'arm64' ? process.arch : undefined;
  if (architecture === undefined) return { missing: `the registry has no node for ${process.arch}` };
  const folder = scratchFolder();
  const name = `node-linux-${architecture}`;
  try {
    await run('npm', ['install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', `${name}@${major}`], { timeout: installTimeoutMs });
  } catch {
    return { missing: `npm cannot install ${name}@${major}` };
  }
  const path = join(folder, 'node_modules', name, 'bin', 'node');
  return existsSync(path) ? { path } : { missing: `${name}@${major} has no bin/node` };
}
