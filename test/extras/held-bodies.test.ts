import { expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { mebibyte } from '../support/process-facts.ts';
import { startBoth, uploadHead } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

// How much memory that really takes is in test/long/held-bodies.

test('while the bodies that the policy reads take 64 MiB, another is told to wait; once they are gone there is room for as many again', async () => {
  const both = await startBoth({ upstream: { answer: answer(200, '{}') }, args: policyArgs({ models: ['gpt-*'] }) });
  const small = async (): Promise<number> => (await both.ask()).status;
  for (let round = 0; round < 2; round++) {
    const clients = [];
    for (let count = 0; count < 4; count++) {
      const client = await connect(both.daemon.port);
      // A body of a known length takes all of its memory with its second piece, and node reads 64 KiB at most.
      await client.send(uploadHead(both.daemon.port, `Content-Type: application/json\r\nContent-Length: ${16 * mebibyte}`));
      await client.send(Buffer.alloc(256 * 1024, ' '));
      clients.push(client);
    }
    await expect.poll(small, { interval: 5 }).toBe(503);
    const served = both.upstream.requests.length;
    const refused = await both.ask();
    expect(envelopeOf(refused)).toMatchObject({ code: 'busy', type: 'server_error' });
    expect(refused.values('retry-after')).toEqual(['1']);
    expect(both.upstream.requests).toHaveLength(served);
    for (const client of clients) client.close();
    await expect.poll(small, { interval: 5 }).toBe(200);
  }
});
