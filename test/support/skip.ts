import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { TestContext } from 'vitest';
import { nobody } from './daemon.ts';
import { launcher } from './daemon-paths.ts';

/** What a test may need: to run as root, or as a plain user, a build that the user `nobody` can run, or a command on PATH. */
export type Need = 'root' | 'not root' | 'root and a build that other users can run' | `command ${string}`;

/** Skips the test, with the reason in the output, unless all needs are met: `needs(context, 'root', 'command gdb')` as its first line. */
export function needs(context: TestContext, ...all: readonly Need[]): void {
  const missing = all.filter((need) => !isMet(need));
  if (missing.length > 0) context.skip(`needs ${missing.join(' and ')}`);
}

/** For conditions beyond `Need`: skips with the reason unless `met`. */
export function skipUnless(context: TestContext, met: boolean, reason: string): void {
  if (!met) context.skip(reason);
}

/** Whether a command is on PATH. */
export function hasCommand(name: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** For what is started once for several tests. */
export function isMet(need: Need): boolean {
  if (need === 'root') return process.getuid?.() === 0;
  if (need === 'not root') return process.getuid?.() !== 0;
  if (need === 'root and a build that other users can run') return isMet('root') && nobodyCanRun();
  return hasCommand(need.slice('command '.length));
}

let nobodyCan: boolean | undefined;

function nobodyCanRun(): boolean {
  // Where only root can read the checkout, `launcher` is that of a copy. A node in a home that is closed has no copy.
  nobodyCan ??= spawnSync(launcher, ['--version'], { ...nobody, cwd: '/', stdio: 'ignore' }).status === 0;
  return nobodyCan;
}
