import { describe, expect, test } from 'vitest';
import { fieldTable, publishedFields } from '../../src/extras/policy/api-fields.ts';
import type { FieldRule } from '../../src/extras/policy/field-rules.ts';
import { judgeBody } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';

type Fields = Record<string, unknown>;

function refusalOf(endpoint: string, policy: Fields, body: Fields): string {
  const { refusals: [refusal] } = judgeBody(parsePolicy(JSON.stringify(policy), endpoint), Buffer.from(JSON.stringify(body)));
  return refusal === undefined ? 'admitted' : `${refusal.rule} ${/at (\S+)\.$/.exec(refusal.message)?.[1]}`;
}

/** A policy of one rule each, as strict as it can be. */
const policies: Readonly<Record<Exclude<FieldRule, 'fields'>, Fields>> = {
  models: { models: ['granted'] },
  tools: { tools: [] },
  remote_urls: { remote_urls: false },
  stored_state: { stored_state: false },
  background: { background: false },
  max_output_tokens: { max_output_tokens: 10 },
  stream_only: { stream_only: true },
  service_tiers: { service_tiers: [] },
  reasoning_modes: { reasoning_modes: ['standard'] },
};

const endpoints = [
  { kind: 'responses', path: '/v1/responses', bound: 'max_output_tokens' },
  { kind: 'chat', path: '/v1/chat/completions', bound: 'max_completion_tokens' },
] as const;

describe.each(endpoints)('at $path', ({ kind, path, bound }) => {
  /** What all rules together let pass. */
  const granted: Fields = { model: 'granted', store: false, stream: true, [bound]: 10 };

  describe.each(Object.entries(policies))('under %s,', (rule, policy) => {
    test('an unknown field is refused, with any value', () => {
      for (const value of [1, null, '', false, {}, []]) expect(refusalOf(path, policy, { ...granted, a_field: value })).toBe('fields /a_field');
      for (const name of ['', '__proto__', 'constructor', 'toString', 'é', 'models', 'a/b']) {
        expect(refusalOf(path, policy, { ...granted, ...JSON.parse(`{${JSON.stringify(name)}:false}`) as Fields }), name).toMatch(/^fields |^models \/models/);
      }
    });

    test('unless the policy names it', () => {
      const open = { ...policy, fields: ['a_field', 'x-other'] };
      expect(refusalOf(path, open, { ...granted, a_field: 1, 'x-other': {} })).toBe('admitted');
      expect(refusalOf(path, open, { ...granted, a_field: 1, A_field: 1 })).toBe('fields /A_field');
      expect(refusalOf(path, open, { ...granted, a_fields: 1 })).toBe('fields /a_fields');
    });

    test('what asks for more than the model is refused until the policy names it', () => {
      const unasked = Object.entries(fieldTable(kind)).filter(([, { granted: why, refused }]) => why !== undefined && refused?.[rule as FieldRule] === undefined);
      expect(unasked.length).toBeGreaterThan(0);
      for (const [field] of unasked) {
        expect(refusalOf(path, policy, { ...granted, [field]: {} }), field).toMatch(new RegExp(`^(fields|${rule}) /${field}$`));
      }
    });
  });

  test('a specific rule is named before an unknown field', () => {
    expect(refusalOf(path, policies.tools, { ...granted, first: 1, second: { tools: [{ type: 'mcp' }] } })).toBe('tools /second/tools/0/type');
  });

  test('"fields" alone restricts to the published API', () => {
    expect(refusalOf(path, { fields: [] }, { model: 'any', stream: false })).toBe('admitted');
    expect(refusalOf(path, { fields: [] }, { model: 'any', top_k: 1 })).toBe('fields /top_k');
    expect(refusalOf(path, { fields: ['top_k'] }, { model: 'any', top_k: 1 })).toBe('admitted');
  });

  test('without a rule about fields, none is read', () => {
    expect(refusalOf(path, { max_body_bytes: 1000 }, { a_field: 1 })).toBe('admitted');
  });

  test('what Codex sends of its own passes, with anything in it', () => {
    const client_metadata = { 'x-codex-turn-metadata': '{"url":"https://x"}', model: 'x', file_id: 'y' };
    for (const policy of Object.values(policies)) expect(refusalOf(path, policy, { ...granted, client_metadata })).toBe('admitted');
  });

  describe('the table says what the rules do:', () => {
    const image = (field: string): unknown => [{ role: 'user', content: [{ type: 'input_image', [field]: 'https://x' }] }];
    const contents: Partial<Record<FieldRule, unknown>> = {
      models: [{ model: 'other' }], tools: [{ tools: [{ type: 'function' }] }], remote_urls: image('image_url'), stored_state: image('file_id'),
    };
    /** Something that the rule refuses, for each place in the table where it has a say. */
    const refused: Record<string, Partial<Record<FieldRule, unknown>>> = {
      model: { models: 'other', tools: 'x-search', remote_urls: 'x-search' },
      tools: {
        models: [{ type: 'image_generation' }], tools: [{ type: 'function' }], remote_urls: [{ type: 'mcp' }], stored_state: [{ type: 'file_search' }],
      },
      tool_choice: { tools: { type: 'function' }, remote_urls: { type: 'mcp' }, stored_state: { type: 'file_search' } },
      input: contents, instructions: contents, messages: contents,
      store: { stored_state: true },
      stream: { stream_only: false },
      service_tier: { service_tiers: 'priority' },
      reasoning: { reasoning_modes: { mode: 'pro' } },
      background: { background: true },
      background_options: { background: { completion_window: 'soonest' } },
      moderation: { models: { model: 'other' } },
      prompt_cache_options: { stored_state: { ttl: '12h' } },
      prompt_cache_retention: { stored_state: '24h' },
      prompt: { models: {}, tools: {}, remote_urls: {}, stored_state: {} },
      previous_response_id: { stored_state: 'x' },
      conversation: { stored_state: 'x' },
      data_sources: { remote_urls: [], stored_state: [] },
      max_output_tokens: { max_output_tokens: 11 },
      max_completion_tokens: { max_output_tokens: 11 },
      max_tokens: { max_output_tokens: 11 },
      n: { max_output_tokens: 0 },
      audio: { stored_state: { voice: { id: 'x' } } },
      functions: { tools: [{ name: 'f' }] },
      function_call: { tools: 'auto' },
      web_search_options: { tools: {}, remote_urls: {} },
    };

    test.each(Object.entries(fieldTable(kind)))('%s', (field, verdict) => {
      const says = { ...verdict.refused, ...verdict.judged };
      // Something is said of each field, once.
      expect([Object.keys(says).length > 0 || verdict.granted !== undefined, verdict.passes !== undefined].filter(Boolean)).toHaveLength(1);
      expect(Object.keys(refused[field] ?? {}).sort()).toEqual(Object.keys(says).sort());
      for (const [rule, policy] of Object.entries(policies)) {
        const value = refused[field]?.[rule as FieldRule];
        if (value !== undefined) expect(refusalOf(path, policy, { ...granted, [field]: value }), rule).toMatch(new RegExp(`^${rule} /${field}(/|$)`));
        // What other rules refuse is none of this rule's.
        for (const [other, theirs] of Object.entries(refused[field] ?? {})) {
          if (rule in says || other === rule || verdict.granted !== undefined) continue;
          expect(refusalOf(path, policy, { ...granted, [field]: theirs }), `${rule}, ${other}`).toBe('admitted');
        }
        if (verdict.passes !== undefined) expect(refusalOf(path, policy, { ...granted, [field]: 'x' }), rule).toBe('admitted');
      }
    });

    test('and there is no published field without a line', () => {
      for (const field of publishedFields[kind]) expect(Object.keys(fieldTable(kind))).toContain(field);
    });
  });
});

describe('models that were not granted', () => {
  const responses = (body: Fields, policy: Fields = {}): string => refusalOf('/v1/responses', { models: ['gpt-*'], ...policy }, { model: 'gpt-5', ...body });

  test('the one that draws, unless the tool is granted', () => {
    const tools = [{ type: 'image_generation' }];
    expect(responses({ tools })).toBe('models /tools/0/model');
    expect(responses({ input: [{ type: 'additional_tools', tools }] })).toBe('models /input/0/tools/0/model');
    expect(responses({ tools }, { tools: ['image_generation'] })).toBe('admitted');
    expect(responses({ tools: [{ type: 'image_generation', model: 'gpt-image-2' }] })).toBe('admitted');
    expect(responses({ tools: [{ type: 'image_generation', model: 'dall-e-3' }] })).toBe('models /tools/0/model');
    expect(responses({ tools: [{ type: 'image_generation', model: 'gpt-image-2', svg: { model: 'o1' } }] })).toBe('models /tools/0/svg/model');
  });

  test('those of a stored prompt', () => {
    expect(responses({ prompt: { id: 'pmpt_1' } })).toBe('models /prompt');
  });

  test('those under longer names, in what else the policy grants', () => {
    const fields = ['fallback_models', 'route'];
    expect(responses({ fallback_models: ['gpt-4', 'o1'] }, { fields })).toBe('models /fallback_models');
    expect(responses({ route: { embeddingModel: 'ada' } }, { fields })).toBe('models /route/embeddingModel');
    expect(responses({ route: { embedding_model: 'gpt-x' } }, { fields })).toBe('admitted');
  });
});
