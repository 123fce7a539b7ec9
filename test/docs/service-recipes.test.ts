import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { newMachine } from '../support/readers-machine.ts';
import { snippetIn } from '../support/readme.ts';
import { needs } from '../support/skip.ts';
import { freePort } from '../support/upstream.ts';

test('the curl that proves that the service works', async (context) => {
  needs(context, 'command curl');
  const proof = snippetIn('scripts/systemd/README.md', 'curl http://127.0.0.1:8787');
  const machine = await newMachine();
  const instead = { 8787: String(await freePort()) };
  await machine.start(snippetIn('README.md', '--server-info "$INFO"'), { instead }).waitForStderr(/^responses-api-proxy listening on /m);
  expect(JSON.parse((await machine.run(proof, { instead })).stdout)).toMatchObject({ object: 'response', status: 'completed' });
});

test('the drop-in starts what the unit starts, and adds a flag', () => {
  const unit = readFileSync(join(checkout, 'scripts/systemd/responses-api-proxy.service'), 'utf8');
  const [, start = ''] = /^(ExecStart=\/bin\/sh [^]*?[^\\])\n/m.exec(unit) ?? [];
  expect(start).toContain('--server-info');
  expect(snippetIn('scripts/systemd/README.md', 'ExecStart=').code).toBe(`[Service]\nExecStart=\n${start} \\\n  --allow-user alice\n`);
});
