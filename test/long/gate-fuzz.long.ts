import { expect, test } from 'vitest';
import { fuzz } from '../support/gate-fuzz.ts';
import { Random, seed } from '../support/random.ts';

const runs = 1;

const seeds = Array.from({ length: runs }, (_, run) => (seed + run) >>> 0);

test.for(seeds)('mutants of good requests for 20 seconds (seed %i): nothing goes upstream but what is admitted', async (runSeed) => {
  const fuzzed = await fuzz(new Random(runSeed), 1_000_000, 20_000);
  console.log(`seed ${runSeed}: ${fuzzed.sent} mutants of ${fuzzed.bytes} bytes, ${fuzzed.forwarded} requests went upstream`);
  expect(fuzzed.forwarded).toBeGreaterThan(fuzzed.sent / 50);
});
