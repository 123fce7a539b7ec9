import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from './checkout.ts';

/**
 * Copies the built package and the packages that it needs to run. Nothing in the copy leads back to the checkout, and every user
 * can read it, whatever umask the checkout was made under.
 *
 * @returns the path of its launcher
 */
export function copyBuild(folder: string): string {
  mkdirSync(join(folder, 'src'), { recursive: true });
  const { packages } = JSON.parse(readFileSync(join(checkout, 'package-lock.json'), 'utf8')) as { packages: Record<string, { dev?: boolean }> };
  const needed = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true).map(([path]) => path);
  for (const path of ['src/launcher.sh', 'package.json', 'dist', ...needed]) {
    cpSync(join(checkout, path), join(folder, path), { recursive: true });
  }
  execFileSync('chmod', ['-R', 'u=rwX,go=rX', folder]);
  return join(folder, 'src', 'launcher.sh');
}
