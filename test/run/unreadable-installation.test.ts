import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copyBuild } from '../support/copy-build.ts';
import { startCorporateProxy } from '../support/corporate-proxy.ts';
import { runToExit } from '../support/daemon.ts';
import { scratchFolder } from '../support/scratch.ts';
import { expectToServe } from '../support/serves.ts';
import { needs } from '../support/skip.ts';
import { startUpstream } from '../support/upstream.ts';

test('--run-as serves where its user cannot read the installation', async (context) => {
  needs(context, 'root');
  const folder = join(scratchFolder(), 'home');
  const launcher = copyBuild(folder);
  chmodSync(folder, 0o700);
  await expectToServe({ launcher, args: ['--run-as', 'nobody'], cwd: '/' });
});

test('--check connects where that user cannot read it, also through a proxy', async (context) => {
  needs(context, 'root');
  const folder = join(scratchFolder(), 'home');
  const launcher = copyBuild(folder);
  chmodSync(folder, 0o700);
  const upstream = await startUpstream();
  const proxy = await startCorporateProxy();
  const exit = await runToExit({ launcher, args: [...upstream.args, '--upstream-proxy', proxy.url, '--run-as', 'nobody', '--check'], cwd: '/', stdin: 'ignore' });
  expect(exit, exit.stderr).toMatchObject({ code: 0, stderr: '' });
});
