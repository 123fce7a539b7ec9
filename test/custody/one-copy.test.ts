import { expect, test } from 'vitest';
import { randomKey, startDaemon } from '../support/daemon.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { scanMemory } from '../support/memory.ts';
import { ask } from '../support/raw-client.ts';
import { startRenewable } from '../support/renewals.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

// Where root can read the locked memory, it shows that the key is in one place of it, before the first request and after it.

test('the line that the key was read into is empty', async (context) => {
  needs(context, 'root', 'command cc');
  const { pid, key } = await startDaemon({ prefix: await denying(noMemfdSecret) });
  expect((await scanMemory(pid, key)).found).toMatchObject([{ form: 'plain', whole: true }]);
});

test('so it is with a key that can be renewed, and a shorter one leaves nothing of a longer one', async (context) => {
  needs(context, 'root', 'command cc');
  const { daemon, renew } = await startRenewable({ prefix: await denying(noMemfdSecret) });
  expect((await scanMemory(daemon.pid, daemon.key)).found).toMatchObject([{ form: 'plain', whole: true }]);
  const shorter = randomKey().slice(0, 40);
  await renew(shorter);
  expect((await scanMemory(daemon.pid, daemon.key)).found).toEqual([]);
  expect((await scanMemory(daemon.pid, shorter)).found).toMatchObject([{ form: 'plain', whole: true }]);
});

test.for([['TLS', 'good'], ['the clear', false]] as const)('the room in which a request was built is empty once that has left, in %s', async ([, tls], context) => {
  needs(context, 'root', 'command cc');
  const upstream = await startUpstream({ tls, answer: answer(200, '{}') });
  const { pid, port, key } = await startDaemon({ args: upstream.args, prefix: await denying(noMemfdSecret) });
  expect((await ask(port)).status).toBe(200);
  expect((await scanMemory(pid, key)).found).toMatchObject([{ form: 'plain', whole: true }]);
});
