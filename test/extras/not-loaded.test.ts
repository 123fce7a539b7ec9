import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildWithout } from '../support/build-copy.ts';
import { runToExit } from '../support/daemon.ts';
import { scratchFolder } from '../support/scratch.ts';
import { expectToServe } from '../support/serves.ts';

const launcher = buildWithout('extras');
const folder = scratchFolder();

test('without its flags, nothing of extras is loaded: the daemon serves where it is missing', async () => {
  await expectToServe({ launcher, args: ['--http-shutdown', '--http-health', '--server-info', join(folder, 'info.json')] });
});

test.for([
  ['--audit-log', join(folder, 'audit.log')],
  ['--policy', join(folder, 'policy.json')],
  ['--expire-at', '9999-12-31T23:59:59Z'],
  ['--run-as', 'nobody'],
  ['--allow-user', 'root'],
  ['--client-token-file', join(folder, 'token')],
  ['--renewable-key'],
  ['--check'],
  ['audit', 'verify', join(folder, 'audit.log')],
])('with %s it is', async (args) => {
  expect(await runToExit({ launcher, args })).toMatchObject({ code: 1, stderr: expect.stringContaining('ERR_MODULE_NOT_FOUND') });
});
