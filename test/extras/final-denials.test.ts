import { beforeAll, expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, asking, startBoth } from '../support/proxied.ts';
import { type RawRequest, type RawResponse, ask } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

const json = ['Content-Type', 'application/json'] as const;
const granted = { headers: [json], body: '{"model":"gpt-5"}' };

/** What makes a client stop: a status that none retries, the word of OpenAI's SDKs, and no time to wait for. */
function expectFinal(refused: RawResponse, code: string): void {
  expect(refused.status).toBe(400);
  expect(refused.values('x-should-retry')).toEqual(['false']);
  expect(refused.values('retry-after')).toEqual([]);
  expect(envelopeOf(refused)).toMatchObject({ code, type: 'invalid_request_error' });
}

let both: Proxied;

beforeAll(async () => {
  both = await startBoth({ args: policyArgs({ models: ['gpt-*'], max_body_bytes: 200, limits: { concurrent: 1 } }) });
});

test.each<[code: string, request: RawRequest]>([
  ['policy_denied', { headers: [json], body: '{"model":"o1"}' }],
  ['invalid_body', { headers: [json], body: '{"model":' }],
  ['body_too_large', { headers: [json], body: ' '.repeat(201) }],
  ['unsupported_encoding', { headers: [json, ['Content-Encoding', 'gzip']], body: 'x' }],
  ['policy_denied', { headers: [json, ['Expect', '100-continue']], body: '{"model":"o1"}' }],
  ['body_too_large', { headers: [json, ['Expect', '100-continue']], body: ' '.repeat(201) }],
])('a rule\'s denial is final: %s', async (code, request) => {
  expectFinal(await ask(both.daemon.port, request), code);
  expect(both.upstream.requests).toHaveLength(0);
});

test('a used-up budget is final', async () => {
  const lent = await startBoth({ args: policyArgs({ limits: { tokens_total: 5, requests_per_minute: 1, concurrent: 1 } }) });
  lent.upstream.answerWith(answer(200, '{"usage":{"total_tokens":5}}'));
  expect((await ask(lent.daemon.port, granted)).status).toBe(200);
  expectFinal(await ask(lent.daemon.port, granted), 'limit_reached');
  expect(lent.upstream.requests).toHaveLength(1);
});

test('"concurrent" is a matter of a second, "requests_per_minute" of a minute at most', async () => {
  const { client } = await asking(both, granted);
  const atOnce = await ask(both.daemon.port, granted);
  const minute = await startBoth({ args: policyArgs({ limits: { requests_per_minute: 1 } }) });
  minute.upstream.answerWith(answer(200, '{}'));
  expect((await ask(minute.daemon.port, granted)).status).toBe(200);
  const soon = await ask(minute.daemon.port, granted);
  for (const { status, values } of [atOnce, soon].map((response) => ({ status: response.status, values: response.values.bind(response) }))) {
    expect(status).toBe(429);
    expect(Number(values('retry-after')[0])).toBeGreaterThanOrEqual(1);
    expect(Number(values('retry-after')[0])).toBeLessThanOrEqual(60);
    expect(values('x-should-retry')).toEqual([]);
  }
  client.close();
});
