import { expect, test } from 'vitest';
import { startBoth } from '../support/proxied.ts';
import { Random, seed } from '../support/random.ts';
import { connect } from '../support/raw-client.ts';
import { roundTrip } from '../support/round-trip.ts';

test.for([['over TLS', undefined], ['in the clear', false]] as const)(`3,000 random exchanges, %s (seed ${seed})`, async ([, tls]) => {
  const random = new Random(seed);
  const both = await startBoth({ upstream: tls === undefined ? {} : { tls } });
  let client = await connect(both.daemon.port);
  for (let round = 0; round < 3_000; round++) {
    // A client keeps its connection for a while.
    if (random.chance(0.05)) {
      client.close();
      client = await connect(both.daemon.port);
    }
    try {
      await roundTrip(both, random, client);
    } catch (error) {
      throw new Error(`round ${round} of seed ${seed}`, { cause: error });
    }
    expect(both.upstream.requests).toHaveLength(round + 1);
  }
});
