import { join } from 'node:path';
import { expect, test } from 'vitest';
import { requestsOf } from '../support/audit.ts';
import { chatCompletions, responses } from '../support/endpoints.ts';
import { envelopeOf } from '../support/envelope.ts';
import { policyArgs } from '../support/policy.ts';
import { asking, startBoth } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

const file = (): string => join(scratchFolder(), 'audit.log');

test('of 200 requests at once, a budget of 10 tokens lets one up; the others are told to wait, or that it is used up', async () => {
  const both = await startBoth({ args: ['--audit-log', file(), ...policyArgs({ limits: { tokens_total: 10 } })] });
  const first = await asking(both);
  const statuses = await Promise.all(Array.from({ length: 199 }, async () => {
    const refused = await ask(both.daemon.port);
    return [refused.status, refused.values('retry-after')[0]].join();
  }));
  expect(new Set(statuses)).toEqual(new Set(['429,1']));
  await first.request.reply(answer(200, '{"usage":{"total_tokens":9}}'));
  await first.client.response();
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":30}}'));
  expect((await ask(both.daemon.port)).status).toBe(200); // below by one
  const last = await ask(both.daemon.port);
  expect([last.status, last.values('retry-after')]).toEqual([400, []]);
  expect(both.upstream.requests).toHaveLength(2);
});

test.each(['tokens_total', 'tokens_per_day'])('%s: the message says what is in the way', async (rule) => {
  const both = await startBoth({ args: policyArgs({ limits: { [rule]: 100 } }) });
  await asking(both, { body: 'x'.repeat(100) });
  const refused = await ask(both.daemon.port);
  expect(envelopeOf(refused)).toMatchObject({ code: 'limit_reached', message: expect.stringMatching(new RegExp(`\\(${rule}\\) allows 100 .*, and requests that are running may need the rest\\. Try again in 1 s\\.$`)) });
});

test('a large turn fits the last tokens of a budget, as long as nothing else runs', async () => {
  const both = await startBoth({ args: policyArgs({ limits: { tokens_total: 60_000 } }) });
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":20000}}'));
  for (let turn = 0; turn < 3; turn++) expect((await ask(both.daemon.port, { body: 'x'.repeat(55_000) })).status).toBe(200);
  expect((await ask(both.daemon.port)).status).toBe(400);
});

test('what the log has of another endpoint counts', async () => {
  const log = file();
  const args = ['--audit-log', log, ...policyArgs({ limits: { tokens_total: 100 } })];
  const first = await startBoth({ endpoint: chatCompletions, args });
  first.upstream.answerWith(answer(200, '{"usage":{"total_tokens":100}}'));
  expect((await first.ask()).status).toBe(200);
  await first.daemon.stop();
  const second = await startBoth({ endpoint: responses, args });
  expect((await second.ask()).status).toBe(400);
  expect(requestsOf(log).map(({ target, charged }) => [target, charged])).toEqual([[chatCompletions.path, 100], [responses.path, undefined]]);
});
