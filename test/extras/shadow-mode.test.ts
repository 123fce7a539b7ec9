import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { linesOf } from '../support/audit.ts';
import { startDaemon } from '../support/daemon.ts';
import { chunked } from '../support/http-bytes.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, startBoth } from '../support/proxied.ts';
import { ask, connect } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

const json = ['Content-Type', 'application/json'] as const;
const warning = /^responses-api-proxy: without --audit-log, shadow mode records nowhere what the policy would refuse$/m;

let log: string;
let both: Proxied;

beforeEach(async () => {
  log = join(scratchFolder(), 'audit.log');
  const rules = { models: ['gpt-*'], tools: ['function'], remote_urls: false, stored_state: false, background: false, stream_only: true, max_output_tokens: 100, max_body_bytes: 500 };
  both = await startBoth({ args: [...policyArgs({ mode: 'shadow', ...rules, limits: { tokens_total: 1 } }), '--audit-log', log] });
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":1}}'));
});

const lastRules = (): unknown => linesOf(log).at(-1)?.['rules'];

async function rulesAgainst(body: object | string, headers: ReadonlyArray<readonly [string, string]> = [json]): Promise<unknown> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  expect((await ask(both.daemon.port, { headers, body: text })).status).toBe(200);
  expect(both.upstream.requests.at(-1)?.body.toString()).toBe(text);
  const record = linesOf(log).at(-1);
  expect(record?.['decision']).toBe(record?.['rules'] === undefined ? 'allowed' : 'would_refuse');
  expect(record?.['rule']).toBe((record?.['rules'] as string[] | undefined)?.[0]);
  return record?.['rules'];
}

const good = { model: 'gpt-5', stream: true, store: false, max_output_tokens: 1, input: 'hello' };

test('a record has every rule that would have refused the request, and the body goes up as it came', async () => {
  expect(await rulesAgainst(good)).toBeUndefined();
  const budgets = ['tokens_total'];
  expect(await rulesAgainst(good)).toEqual(budgets);
  const worst = {
    model: 'o1', background: true, unheard_of: 1, previous_response_id: 'resp_1',
    input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'https://evil.example' }] }], tools: [{ type: 'code_interpreter' }],
  };
  const all = await rulesAgainst(worst) as string[];
  expect(all.slice(0, 1)).toEqual(budgets);
  expect(all.slice(1).sort()).toEqual(['background', 'fields', 'max_output_tokens', 'models', 'remote_urls', 'stored_state', 'stream_only', 'tools']);
  expect(await rulesAgainst('{"model":')).toEqual([...budgets, 'body']);
});

test('what the head gives away is all that is said of a body that cannot be judged', async () => {
  expect(await rulesAgainst('x'.repeat(501), [json, ['Content-Encoding', 'gzip']])).toEqual(['encoding', 'max_body_bytes']);
  expect(await rulesAgainst('not JSON', [['Content-Type', 'text/plain']])).toEqual(['encoding', 'tokens_total']);
  const client = await connect(both.daemon.port);
  await client.send(Buffer.concat([Buffer.from(both.uploadHead('Content-Type: application/json\r\nTransfer-Encoding: chunked')), chunked('{"model":"o1"', ' '.repeat(600), '}')]));
  expect((await client.response()).status).toBe(200);
  expect(both.upstream.requests.at(-1)?.body.toString()).toBe(`{"model":"o1"${' '.repeat(600)}}`);
  expect(lastRules()).toEqual(['tokens_total', 'max_body_bytes']);
  expect(linesOf(log).at(-1)).toMatchObject({ model: 'o1' });
});

test('it warns where nothing is recorded', async () => {
  const shadow = policyArgs({ mode: 'shadow', models: ['*'] });
  expect((await startDaemon({ args: shadow })).stderr).toMatch(warning);
  expect(both.daemon.stderr).not.toMatch(warning);
  expect((await startDaemon({ args: policyArgs({ models: ['*'] }) })).stderr).not.toMatch(warning);
});
