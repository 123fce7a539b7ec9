import { expect, test } from 'vitest';
import { fuzz } from '../support/gate-fuzz.ts';
import { Random, seed } from '../support/random.ts';

test(`mutants of good requests (seed ${seed}): nothing goes upstream but what is admitted, and the daemon lives on`, async () => {
  const fuzzed = await fuzz(new Random(seed), 2_000, 6_000);
  console.log(`seed ${seed}: ${fuzzed.sent} mutants of ${fuzzed.bytes} bytes, ${fuzzed.forwarded} requests went upstream`);
  expect(fuzzed.sent).toBeGreaterThan(100);
  expect(fuzzed.forwarded).toBeGreaterThan(fuzzed.sent / 10);
}, 30_000);
