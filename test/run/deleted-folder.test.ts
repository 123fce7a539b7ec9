import { expect, test } from 'vitest';
import { join } from 'node:path';
import { runToExit, shell } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';

const flags = ['server-info', 'audit-log', 'policy', 'client-token-file', 'upstream-ca'];

/** Starts it in a folder that has been removed. */
const gone = shell(`mkdir gone && cd gone && rmdir ../gone`);

test.for(flags)('--%s with a relative path, in a folder that is gone, says so', async (flag) => {
  for (const file of ['file', './sub/file', '../file']) {
    const exit = await runToExit({ args: [`--${flag}`, file], cwd: scratchFolder(), prefix: gone, stdin: () => {} });
    // The starter looks for the folders of what is written; that of `file` is the one that is gone.
    expect([`--${flag} ${file} is relative to the current folder, which is gone`, `cannot open the folder of --${flag} ${file}: no such file or directory`]).toContain(refusalOf(exit, 1));
  }
});

test('whole paths do not need it', async () => {
  const folder = scratchFolder();
  const exit = await runToExit({ args: ['--server-info', join(folder, 'info.json'), '--audit-log', join(folder, 'log')], cwd: folder, prefix: gone, key: '' });
  expect(refusalOf(exit, 1)).toContain('no key');
});
