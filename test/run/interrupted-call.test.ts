import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { checkout } from '../support/checkout.ts';
import { nativeTool } from '../support/native-tools.ts';
import { needs } from '../support/skip.ts';

// SIGUSR2 opens the log anew, and any signal may come while the kernel is asked about a connection.
test('a signal during poll(2) is no failure', async (context) => {
  needs(context, 'command cc');
  const interrupted = await nativeTool('interrupted-poll', ['-shared', '-fPIC']);
  const addon = join(checkout, 'dist', 'native', `${process.arch}.node`);
  const { stdout } = await promisify(execFile)(process.execPath, ['-p', `require(${JSON.stringify(addon)}).pollEnds(0)`], { env: { LD_PRELOAD: interrupted } });
  expect(stdout).toMatch(/^\d+\n$/);
});
