import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { copyBuild } from './copy-build.ts';
import { scratchFolder } from './scratch.ts';

/**
 * A copy of the built package whose addon is missing, or is a file that cannot be loaded.
 *
 * @returns the path of its launcher
 */
export function buildWithoutAddon(instead: 'nothing' | 'rubbish' = 'nothing'): string {
  const folder = buildCopy();
  const addon = join(folder, 'dist', 'native', `${process.arch}.node`);
  rmSync(addon, { force: true });
  if (instead === 'rubbish') writeFileSync(addon, 'not a shared object');
  return join(folder, 'src', 'launcher.sh');
}

/**
 * A copy of the built package whose starter is missing, or is a file that cannot be executed.
 *
 * @returns the path of its launcher
 */
export function buildWithoutStarter(instead: 'nothing' | 'rubbish' | 'another machine\'s' = 'nothing'): string {
  const folder = buildCopy();
  const native = join(folder, 'dist', 'native');
  for (const name of readdirSync(native).filter((file) => file.startsWith('starter-'))) {
    const starter = join(native, name);
    const program = readFileSync(starter);
    rmSync(starter);
    if (instead === 'rubbish') writeFileSync(starter, 'no program', { mode: 0o755 });
    if (instead === 'another machine\'s') writeFileSync(starter, program.fill(0xff, elfMachineOffset, elfMachineOffset + 2), { mode: 0o755 });
  }
  return join(folder, 'src', 'launcher.sh');
}

/** Where the head of an ELF file says which processor it is for: two bytes (elf(5)). */
const elfMachineOffset = 18;

/**
 * A copy of the built package without one of its rooms.
 *
 * @param room its path below `dist`
 * @returns the path of its launcher
 */
export function buildWithout(room: string): string {
  const folder = buildCopy();
  rmSync(join(folder, 'dist', room), { recursive: true });
  return join(folder, 'src', 'launcher.sh');
}

/** A copy of the built package. Returns its folder. */
export function buildCopy(): string {
  const folder = scratchFolder();
  copyBuild(folder);
  return folder;
}
