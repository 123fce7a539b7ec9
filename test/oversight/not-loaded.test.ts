import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildWithout } from '../support/build-copy.ts';
import { runToExit } from '../support/daemon.ts';
import { scratchFolder } from '../support/scratch.ts';
import { expectToServe } from '../support/serves.ts';

test('without its flags, nothing of oversight is loaded: the daemon serves where it is missing', async () => {
  await expectToServe({ launcher: buildWithout('oversight') });
});

test('with them it is', async () => {
  const launcher = buildWithout('oversight');
  expect(await runToExit({ launcher, args: ['--audit-log', join(scratchFolder(), 'audit.log')] })).toMatchObject({ code: 1, stderr: expect.stringContaining('ERR_MODULE_NOT_FOUND') });
});
