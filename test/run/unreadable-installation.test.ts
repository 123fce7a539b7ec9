import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import { copyBuild } from '../support/copy-build.ts';
import { scratchFolder } from '../support/scratch.ts';
import { expectToServe } from '../support/serves.ts';
import { needs } from '../support/skip.ts';

test('--run-as serves where its user cannot read the installation', async (context) => {
  needs(context, 'root');
  const folder = join(scratchFolder(), 'home');
  const launcher = copyBuild(folder);
  chmodSync(folder, 0o700);
  await expectToServe({ launcher, args: ['--run-as', 'nobody'], cwd: '/' });
});

