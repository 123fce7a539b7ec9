import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { ask } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';

test('a feeder of your own ends with the daemon, so that nothing keeps a step open', async (context) => {
  needs(context, 'command setsid', 'command mkfifo');
  const machine = await newMachine();
  machine.install('vault', '#!/bin/sh\necho "$OPENAI_API_KEY"\n');
  const file = join(machine.folder, 'info.json');
  const running = machine.start(snippetIn('scripts/keys/README.md', 'mkfifo'), { env: { KEYS: join(machine.folder, 'keys'), FILE: file } });
  await running.waitForStderr(/listening on/);
  const { port } = JSON.parse(readFileSync(file, 'utf8')) as { port: number };
  expect((await ask(port, { body: '{"model":"gpt-5","input":"hello"}' })).status).toBe(200);
  expect((await ask(port, { method: 'GET', target: '/shutdown' })).status).toBe(200);
  // It ends once everybody who holds its output has: the feeder's sleep too.
  expect((await running.waitForExit()).code).toBe(0);
});
