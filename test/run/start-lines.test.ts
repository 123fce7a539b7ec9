import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { launch, shell, startDaemon } from '../support/daemon.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { policyArgs } from '../support/policy.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { defaultWaitMs } from '../support/wait.ts';

// What a start says of itself stands before the line that clients wait for: who has read that has read all of it.
// What becomes of the custody where nothing can be locked is in custody/missing-protection.test.ts.

const custody = String.raw`responses-api-proxy: key in (?:memfd_secret|mlocked memory, which root can read); every user of this machine may use it \(see --allow-user\)\n`;

test('it names the custody of the key, then the port', async () => {
  const { stderr } = await startDaemon();
  expect(stderr).toMatch(new RegExp(String.raw`^${custody}responses-api-proxy listening on 127\.0\.0\.1:\d+\n`, 'm'));
});

test.for([['--allow-user', String(process.getuid?.())], ['--issue-token', '--server-info', join(scratchFolder(), 'info.json')]])('with %s it does not say that every user may use the key', async (args) => {
  expect((await startDaemon({ args })).stderr).not.toContain('every user');
});

test('it says when root can read the key', async (context) => {
  needs(context, 'command cc');
  const { stderr } = await startDaemon({ prefix: await denying(noMemfdSecret) });
  expect(stderr).toMatch(/^responses-api-proxy: key in mlocked memory, which root can read; /m);
  expect(stderr).not.toContain('memfd_secret');
});

test.for([
  [{}, 'policy enforced'],
  [{ mode: 'enforce' }, 'policy enforced'],
  [{ mode: 'shadow' }, 'policy in shadow mode: nothing is enforced'],
])('with a policy %j it says: %s', async ([mode, line]) => {
  const { stderr } = await startDaemon({ args: policyArgs({ models: ['*'], ...(mode as object) }) });
  expect(stderr).toMatch(new RegExp(String.raw`^${custody}responses-api-proxy: ${String(line)}\nresponses-api-proxy listening on`, 'm'));
});

test('without a policy it says nothing of one', async () => {
  expect((await startDaemon({ args: ['--audit-log', join(scratchFolder(), 'audit.log')] })).stderr).not.toContain('policy');
});

test('in a file it says the same, behind the time', async () => {
  const file = join(scratchFolder(), 'log');
  launch({ prefix: shell(`exec 2>>'${file}'`) });
  await vi.waitFor(() => expect(readFileSync(file, 'utf8').replaceAll(/^\S+Z /gm, '')).toMatch(new RegExp(`^${custody}responses-api-proxy listening on`, 'm')), { timeout: defaultWaitMs, interval: 5 });
});
