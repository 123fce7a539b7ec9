import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildWithout } from '../support/build-copy.ts';
import { runToExit } from '../support/daemon.ts';
import { scratchFolder } from '../support/scratch.ts';
import { expectToServe } from '../support/serves.ts';

const ofPolicies = ['limits', 'model-names', 'policy', 'policy-verdict', 'request-fields', 'strict-json'].map((name) => `gate/${name}.js`);
const ofRecords = [
  ...['audit-chain', 'audit-command', 'audit-entry', 'audit-file', 'audit-list', 'audit-log', 'audit-past', 'audit-reading', 'audit-record', 'audit-summary', 'audit-verify'],
  ...['event-stream', 'json-scanner', 'request-reader', 'usage'],
].map((name) => `record/${name}.js`);

test('without the flags, nothing that keeps accounts is loaded: the daemon serves where it is missing', async () => {
  await expectToServe({ launcher: buildWithout(['proxy/accounts.js', ...ofPolicies, ...ofRecords]) });
});

test('with them it is', async () => {
  const launcher = buildWithout(['proxy/accounts.js']);
  expect(await runToExit({ launcher, args: ['--audit-log', join(scratchFolder(), 'audit.log')] })).toMatchObject({ code: 1, stderr: expect.stringContaining('ERR_MODULE_NOT_FOUND') });
});
