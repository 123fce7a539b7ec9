import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launch, startDaemon } from '../support/daemon.ts';
import { statusOf } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream } from '../support/upstream.ts';

// SIGUSR2 asks for the audit log to be opened again. A tool that rotates logs sends it to every daemon there is.

test('SIGUSR2 does no harm to a daemon without one', async () => {
  const file = join(scratchFolder(), 'server-info.json');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--server-info', file] });
  for (let count = 0; count < 3; count++) {
    daemon.signal('SIGUSR2');
    expect((await ask(daemon.port)).status).toBe(200);
  }
  expect(await daemon.stop()).toMatchObject({ code: 0, signal: null });
  expect(existsSync(file)).toBe(false);
});

test('nor to one that waits for its key', async () => {
  const running = launch({ stdin: (stdin) => stdin.write('sk-the-beginning-') });
  const caught = (): boolean => (BigInt(`0x${statusOf(running.pid, 'SigCgt')}`) >> BigInt(constants.signals.SIGUSR2 - 1) & 1n) === 1n;
  await expect.poll(caught).toBe(true);
  running.signal('SIGUSR2');
  running.child.stdin?.end('and-the-end\n');
  await running.waitForStderr(/listening on/);
});
