import { expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { startBoth, uploadHead } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';

test('a body that the policy reads is given up after half a minute: one that never begins, and one that drips busily', async () => {
  const both = await startBoth({ args: policyArgs({ models: ['gpt-*'] }) });
  const [silent, dripping] = [await connect(both.daemon.port), await connect(both.daemon.port)];
  const head = uploadHead(both.daemon.port, 'Content-Type: application/json\r\nContent-Length: 1000');
  const before = performance.now();
  await silent.send(head);
  await dripping.send(`${head}{`);
  const drip = setInterval(() => void dripping.send(' ').catch(() => {}), 1_000);
  for (const client of [silent, dripping]) {
    await client.waitFor('HTTP/1.1', 45_000).finally(() => clearInterval(drip));
    const refused = await client.response();
    expect(refused.status).toBe(408);
    expect(envelopeOf(refused).code).toBe('request_timeout');
    expect(performance.now() - before).toBeGreaterThan(25_000);
  }
  expect(both.upstream.requests).toHaveLength(0);
});
