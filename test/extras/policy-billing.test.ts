import { describe, expect, test } from 'vitest';
import { judgeBody, judgeHeaders } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';
import { linesOf } from '../support/audit.ts';
import { policyArgs } from '../support/policy.ts';
import { startBoth } from '../support/proxied.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

function ruleOf(policy: object, body: object, endpoint = '/v1/responses'): string | undefined {
  const { refusals: [refusal] } = judgeBody(parsePolicy(JSON.stringify(policy), endpoint), Buffer.from(JSON.stringify({ model: 'm', ...body })));
  return refusal?.rule;
}

describe('service tiers and reasoning modes: the granted ones, or none', () => {
  test.each(['/v1/responses', '/v1/chat/completions'])('tiers, at %s', (endpoint) => {
    const policy = { service_tiers: ['flex', 'default'] };
    for (const tier of ['flex', 'default', null, undefined]) expect(ruleOf(policy, { service_tier: tier }, endpoint)).toBeUndefined();
    for (const tier of ['priority', 'Flex', 'auto', '', 1, true, {}, ['flex']]) expect(ruleOf(policy, { service_tier: tier }, endpoint), String(tier)).toBe('service_tiers');
  });

  test('modes', () => {
    const policy = { reasoning_modes: ['standard'] };
    for (const reasoning of [{ mode: 'standard' }, { mode: null }, { effort: 'high' }, null, undefined]) expect(ruleOf(policy, { reasoning })).toBeUndefined();
    for (const mode of ['pro', 'Standard', '', {}, ['standard'], 1]) expect(ruleOf(policy, { reasoning: { mode } })).toBe('reasoning_modes');
    expect(ruleOf(policy, { reasoning: [{ mode: 'pro' }] })).toBe('reasoning_modes');
  });

  test('without these rules all pass', () => {
    expect(ruleOf({ background: false }, { service_tier: 'ultrafast', reasoning: { mode: 'pro' } })).toBeUndefined();
  });
});

describe('who is billed', () => {
  const rules = (policy: object, ...names: string[]): string[] =>
    judgeHeaders(parsePolicy(JSON.stringify(policy), '/v1/responses'), names.flatMap((name) => [name, 'x'])).map(({ rule }) => rule);

  test.each([{ limits: { concurrent: 1 } }, { max_body_bytes: 10 }, { models: ['*'] }])('is not for the client to say, under %j', (policy) => {
    for (const name of ['OpenAI-Organization', 'openai-project', 'OpenAI_Organization']) expect(rules(policy, name)).toEqual(['account_headers']);
    expect(rules(policy, 'OpenAI-Beta', 'X-OpenAI-Project')).toEqual([]);
  });

  test('unless the policy grants the header', () => {
    const policy = { account_headers: ['OpenAI-Project'] };
    expect(rules(policy, 'openai-project', 'OPENAI_PROJECT')).toEqual([]);
    expect(rules(policy, 'OpenAI-Organization')).toEqual(['account_headers']);
  });

  test('what --upstream-header says goes up', async () => {
    const both = await startBoth({ args: [...policyArgs({ models: ['*'] }), '--upstream-header', 'OpenAI-Project: proj_1'] });
    both.upstream.answerWith(answer(200, '{}'));
    const ask = { headers: [['Content-Type', 'application/json']], body: '{"model":"m"}' } as const;
    expect((await both.ask(ask)).status).toBe(200);
    expect((await both.nextRequest()).values('openai-project')).toEqual(['proj_1']);
    expect((await both.ask({ ...ask, headers: [...ask.headers, ['OpenAI-Project', 'proj_2']] })).status).toBe(400);
  });

  test('in shadow mode the header passes, and the body is judged as well', async () => {
    const log = `${scratchFolder()}/audit.log`;
    const both = await startBoth({ args: [...policyArgs({ mode: 'shadow', models: ['gpt-*'], service_tiers: [] }), '--audit-log', log] });
    both.upstream.answerWith(answer(200, '{}'));
    await both.ask({ headers: [['Content-Type', 'application/json'], ['OpenAI-Project', 'proj_2']], body: '{"model":"o1","service_tier":"flex","reasoning":{"mode":"pro"}}' });
    expect(linesOf(log).at(-1)).toMatchObject({ rules: ['account_headers', 'models', 'service_tiers'], model: 'o1', service_tier: 'flex', reasoning_mode: 'pro' });
  });
});
