import { expect, test } from 'vitest';
import { startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';

const loanMs = 8_000;
const farewellMs = 60_000;

test('an expired loan answers for a minute, then the daemon stops with exit code 0', async () => {
  const { daemon } = await startBoth({ args: ['--expire-at', new Date(Date.now() + loanMs).toISOString()] });
  await daemon.waitForStderr(/the loan is over/, loanMs + 10_000);
  const over = performance.now();
  let answers = 0;
  for (; daemon.exit === undefined && performance.now() - over < farewellMs - 2_000; answers++) {
    expect((await ask(daemon.port)).status).toBe(400);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  expect(answers).toBeGreaterThan(20);
  const { code, signal } = await daemon.waitForExit(farewellMs);
  expect([code, signal]).toEqual([0, null]);
  expect(performance.now() - over).toBeGreaterThan(farewellMs - 1_000);
}, 180_000);
