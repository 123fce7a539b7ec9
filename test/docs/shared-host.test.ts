import { join } from 'node:path';
import { expect, test } from 'vitest';
import { newMachine, systemUser } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';

const start = snippetIn('README.md', '--run-as nobody');
const curl = snippetIn('README.md', 'TOKEN=$(sed');

test('on a shared host the agent is served with its token, and no other user', async (context) => {
  needs(context, 'root', 'command curl');
  const agent = await systemUser(context);
  const machine = await newMachine();
  const env = { AGENT: agent.name, FILE: join(machine.folder, 'server-info.json') };
  const daemon = machine.start(start, { env });
  await daemon.waitForStderr(/^responses-api-proxy listening on /m);

  const served = await machine.run(curl, { env, user: agent });
  expect(served.code).toBe(0);
  expect(JSON.parse(served.stdout)).toMatchObject({ object: 'response', status: 'completed' });

  const refused = await machine.run(curl, { env });
  expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'user_not_allowed' } });
  expect(machine.standIn.requests).toHaveLength(1);
});
