import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mebibyte, memoryOf } from '../support/process-facts.ts';
import { startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

test('what clients call things does not keep their bodies in memory', async () => {
  const policy = join(scratchFolder(), 'policy.json');
  writeFileSync(policy, '{"models":["*"],"remote_urls":false}', { mode: 0o600 });
  const both = await startBoth({ upstream: { keepBytes: 0 }, args: ['--policy', policy] });
  both.upstream.answerWith(answer(200, '{}'));
  const post = async (round: number): Promise<void> => {
    const body = `{"model":"a-model-with-a-long-name-${round}","text":{"a_unique_name_that_is_long_${round}":[{"another_one_${round}":1}]},"input":"${'x'.repeat(8 * mebibyte)}"}`;
    expect((await ask(both.daemon.port, { headers: [['Content-Type', 'application/json']], body })).status).toBe(200);
  };
  for (let round = 0; round < 5; round++) await post(round);
  const before = memoryOf(both.daemon.pid).now;
  for (let round = 5; round < 35; round++) await post(round);
  expect(memoryOf(both.daemon.pid).now - before).toBeLessThan(120 * mebibyte);
});
