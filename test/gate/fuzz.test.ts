import { expect, test } from 'vitest';
import { fuzz } from '../support/gate-fuzz.ts';
import { Random, seed } from '../support/random.ts';

/** test/long sends many more. */
const mutants = 500;

test(`mutants of good requests (seed ${seed}): only what is admitted goes upstream, and the daemon lives on`, async () => {
  const fuzzed = await fuzz(new Random(seed), mutants);
  console.log(`seed ${seed}: ${fuzzed.sent} mutants of ${fuzzed.bytes} bytes, ${fuzzed.forwarded} requests went upstream`);
  expect(fuzzed.forwarded).toBeGreaterThan(fuzzed.sent / 10);
});
