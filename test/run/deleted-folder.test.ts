import { expect, test } from 'vitest';
import { join } from 'node:path';
import { runToExit, shell } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';

const flags = ['server-info', 'audit-log', 'log-file', 'policy', 'client-token-file', 'upstream-ca'];

/** Starts it in a folder that has been removed. */
const gone = shell(`mkdir gone && cd gone && rmdir ../gone`);

test.for(flags)('--%s with a relative path, in a folder that is gone, says so', async (flag) => {
  for (const file of ['file', './sub/file', '../file']) {
    const exit = await runToExit({ args: [`--${flag}`, file], cwd: scratchFolder(), prefix: gone, stdin: () => {} });
    expect(refusalOf(exit, 1)).toBe(`--${flag} ${file} is relative to the current folder, which is gone`);
  }
});

test('whole paths do not need it', async () => {
  const folder = scratchFolder();
  const exit = await runToExit({ args: ['--server-info', join(folder, 'info.json'), '--audit-log', join(folder, 'log')], cwd: folder, prefix: gone, key: '' });
  expect(refusalOf(exit, 1)).toContain('no key');
});
