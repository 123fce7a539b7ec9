import { expect, test } from 'vitest';
import { launch, randomKey, startDaemon } from '../support/daemon.ts';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { ask } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const probe = snippetIn('README.md', 'scripts/custody-probe.ts');

/** As root already, there is no need of the real sudo. */
const sudo = '#!/bin/sh\nexec "$@"\n';

test('the probe reads all of the daemon as root, and finds no copy of the key', async (context) => {
  needs(context, 'root');
  const machine = await newMachine();
  machine.install('sudo', sudo);
  const upstream = await startUpstream({ answer: answer(401, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  for (let count = 0; count < 5; count += 1) expect((await ask(daemon.port)).status).toBe(401);
  const { code, stdout, stderr } = await machine.run(probe, { env: { KEY: daemon.key, PID: String(daemon.pid) } });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^arguments +\d+ bytes read, 0 copies of the key\nenvironment +\d+ bytes read, 0 copies of the key\nmemory +\d\d+ MiB read, 0 copies of the key/);
});

test('it finds a key where there is one', async () => {
  const machine = await newMachine();
  machine.install('sudo', sudo);
  const key = randomKey();
  const careless = launch({ launcher: 'sleep', args: ['60'], stdin: 'ignore', env: { OPENAI_API_KEY: key } });
  const { code, stdout } = await machine.run(probe, { env: { KEY: key, PID: String(careless.pid) } });
  expect(code).toBe(1);
  expect(stdout).toMatch(/^environment +\d+ bytes read, 1 copy of the key$/m);
});

test('a process that is not there is no proof', async () => {
  const machine = await newMachine();
  machine.install('sudo', sudo);
  expect(await machine.run(probe, { env: { KEY: randomKey(), PID: '99999999' } })).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('no process 99999999') });
});
