import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loneAgent, toldAlone } from '../support/lone-agent.ts';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { SealedPodman } from '../support/sealed-podman.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { freePort } from '../support/upstream.ts';

const testTimeoutMs = 300_000;

test('under podman, an agent without a network reaches the model, and nothing else', { timeout: testTimeoutMs }, async (context) => {
  needs(context, 'command socat');
  const problem = await SealedPodman.problem();
  skipUnless(context, problem === undefined, problem ?? '');
  const machine = await newMachine();
  const port = await freePort();
  const instead = { 8787: String(port), 'your-image': 'localhost/your-image' };
  await machine.start(snippetIn('README.md', '--server-info "$INFO"'), { instead }).waitForStderr(/^responses-api-proxy listening on /m);

  // The recipe as it stands, but for who runs the container.
  const asked = join(machine.folder, 'docker-run');
  machine.install('docker', `#!/bin/sh\nprintf '%s\\0' "$@" >'${asked}.new'\nmv '${asked}.new' '${asked}'\n`);
  machine.start(snippetIn('scripts/systemd/README.md', '--network none'), { instead, env: { DIR: join(machine.folder, 'model') } });
  await expect.poll(() => existsSync(asked)).toBe(true);
  const [run, ...words] = readFileSync(asked, 'utf8').split('\0').slice(0, -1);
  const image = words.indexOf('localhost/your-image');
  expect([run, image > 0]).toEqual(['run', true]);

  const agent = join(machine.folder, 'agent.mjs');
  writeFileSync(agent, loneAgent(port, machine.standIn.port), { mode: 0o755 });
  const podman = new SealedPodman();
  await podman.importBase('localhost/your-image');
  const { code, stdout, stderr } = await podman.run([...words.slice(0, image), `--volume=${agent}:/opt/stand-in/your-agent:ro`], 'localhost/your-image', ...words.slice(image + 1));
  expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: toldAlone });
  expect(machine.standIn.requests.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${machine.key}`]);
});
