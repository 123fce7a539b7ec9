import { expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { mebibyte, memoryOf } from '../support/process-facts.ts';
import { startBoth, uploadHead } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

const bodyBytes = 16 * mebibyte;

test('bodies that the policy reads take 64 MiB together; what is beyond is told to wait, and there is room again when they are gone', async () => {
  const both = await startBoth({ upstream: { keepBytes: 0 }, args: policyArgs({ models: ['gpt-*'] }) });
  both.upstream.answerWith(answer(200, '{}'));
  const head = uploadHead(both.daemon.port, `Content-Type: application/json\r\nContent-Length: ${bodyBytes}`);
  const body = Buffer.alloc(bodyBytes, ' ');
  body.write('{"model":"gpt-5"}');
  const begin = async (): ReturnType<typeof connect> => {
    const client = await connect(both.daemon.port);
    // All but the last byte: nothing of it can go up.
    await client.send(Buffer.concat([Buffer.from(head), body.subarray(0, -1)]));
    return client;
  };

  const clients = [];
  for (let count = 0; count < 4; count++) clients.push(await begin());
  const fifth = await begin();
  const refused = await fifth.response();
  expect(refused.status).toBe(503);
  expect(envelopeOf(refused).code).toBe('busy');
  expect(refused.values('retry-after')).toEqual(['1']);
  expect(both.upstream.requests).toHaveLength(0);
  expect(memoryOf(both.daemon.pid).peak).toBeLessThan(300 * mebibyte);

  const [first, second, ...others] = clients;
  first?.close();
  await second?.send(body.subarray(-1));
  expect((await second?.response())?.status).toBe(200);
  for (const client of others) client.close();
  const again = await begin();
  await again.send(body.subarray(-1));
  expect((await again.response()).status).toBe(200);
});
