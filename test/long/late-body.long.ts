import { expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { startBoth, uploadHead } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';

test('a body that the policy reads is given up after half a minute, however busily it drips', { timeout: 60_000 }, async () => {
  const both = await startBoth({ args: policyArgs({ models: ['gpt-*'] }) });
  const client = await connect(both.daemon.port);
  await client.send(`${uploadHead(both.daemon.port, 'Content-Type: application/json\r\nContent-Length: 1000')}{`);
  const drip = setInterval(() => void client.send(' ').catch(() => {}), 1_000);
  const before = performance.now();
  await client.waitFor('HTTP/1.1', 45_000).finally(() => clearInterval(drip));
  const refused = await client.response();
  expect(refused.status).toBe(408);
  expect(envelopeOf(refused).code).toBe('request_timeout');
  expect(performance.now() - before).toBeGreaterThan(25_000);
  expect(both.upstream.requests).toHaveLength(0);
});
