import { describe, expect, test } from 'vitest';
import { judgeBody } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';

/** Where `stored_state: false` alone refuses a request that says `store: false` and this. */
function refusedAt(endpoint: string, fields: object): string | undefined {
  const { refusals: [refusal] } = judgeBody(parsePolicy('{"stored_state":false}', endpoint), Buffer.from(JSON.stringify({ model: 'm', store: false, ...fields })));
  if (refusal !== undefined) expect(refusal).toMatchObject({ status: 400, rule: 'stored_state' });
  return refusal && /at (\S+)\.$/.exec(refusal.message)?.[1];
}

describe.each(['/v1/responses', '/v1/chat/completions'])('stored_state: false at %s', (endpoint) => {
  test('wants "store": false, even if the account does not store by default', () => {
    expect(refusedAt(endpoint, {})).toBeUndefined();
    for (const store of [undefined, null, true, 0, '', 'false', []]) expect(refusedAt(endpoint, { store })).toBe('/store');
  });

  test('says what to set', () => {
    const { refusals: [refusal] } = judgeBody(parsePolicy('{"stored_state":false}', endpoint), Buffer.from('{"model":"m"}'));
    expect(refusal?.message).toContain('set "store": false');
  });

  test('leaves the prompt cache as OpenAI keeps it by itself', () => {
    expect(refusedAt(endpoint, { prompt_cache_retention: null, prompt_cache_key: 'k' })).toBeUndefined();
    expect(refusedAt(endpoint, { prompt_cache_retention: 'in_memory' })).toBeUndefined();
    for (const retention of ['24h', '48h', 'IN_MEMORY', 1, {}]) expect(refusedAt(endpoint, { prompt_cache_retention: retention })).toBe('/prompt_cache_retention');
    expect(refusedAt(endpoint, { promptCacheRetention: '24h' })).toBe('/promptCacheRetention');
    expect(refusedAt(endpoint, { prompt_cache_options: { mode: 'explicit', ttl: '30m', prewarm: true } })).toBeUndefined();
    expect(refusedAt(endpoint, { prompt_cache_options: { ttl: '12h' } })).toBe('/prompt_cache_options/ttl');
    expect(refusedAt(endpoint, { prompt_cache_options: { TTL: '12h' } })).toBe('/prompt_cache_options/TTL');
  });
});

describe('a part of the input', () => {
  test.each(['input', 'messages'])('in %s cannot ask for a longer cache', (field) => {
    const endpoint = field === 'input' ? '/v1/responses' : '/v1/chat/completions';
    const part = (ttl: string): object => ({ [field]: [{ role: 'user', content: [{ type: 'text', text: 'x', prompt_cache_breakpoint: { mode: 'explicit', ttl } }] }] });
    expect(refusedAt(endpoint, part('30m'))).toBeUndefined();
    expect(refusedAt(endpoint, part('12h'))).toBe(`/${field}/0/content/0/prompt_cache_breakpoint/ttl`);
  });
});

test.each([
  [{ voice: 'alloy', format: 'mp3' }, undefined],
  [{ voice: null, format: 'mp3' }, undefined],
  [{ voice: { id: 'voice_1234' }, format: 'mp3' }, '/audio/voice'],
  [{ voice: { name: 'alloy' } }, '/audio/voice'],
  [{ voice: 'voice_1234' }, '/audio/voice'],
  [{ voice: ['alloy'] }, '/audio/voice'],
  [{ Voice: { id: 'voice_1234' } }, '/audio/Voice'],
])('chat speaks with voices that all accounts have: %j', (audio, place) => {
  expect(refusedAt('/v1/chat/completions', { modalities: ['text', 'audio'], audio })).toBe(place);
});

const dummy = [{ type: 'reasoning_text', text: 'x' }];
test.each<readonly [object, boolean]>([
  // OpenAI looks reasoning up by its id unless it has its encrypted form, which it verifies.
  [{ type: 'reasoning', id: 'rs_1', summary: [], content: dummy }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [{ type: 'summary_text', text: 'x' }], content: dummy }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], content: 'x' }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: null, content: dummy }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: '', more: 1 }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 1 }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: {} }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: true }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], encryptedContent: 'gAAAA' }, false],
  [{ type: 'reasoning', Id: 'rs_1', summary: [] }, false],
  [{ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'gAAAA', content: null }, true],
  [{ type: 'reasoning', summary: [], content: dummy }, true],
  // The same for what else can stand for what is stored.
  [{ type: 'compaction', id: 'cmp_1', encrypted_content: null, more: 1 }, false],
  [{ type: 'compaction', id: 'cmp_1', encrypted_content: 'gAAAA' }, true],
  [{ type: 'image_generation_call', id: 'ig_1', status: 'completed', result: true }, false],
  [{ type: 'image_generation_call', id: 'ig_1', status: 'completed', result: null, size: 'x' }, false],
  [{ type: 'file_search_call', id: 'fs_1', status: 'completed', queries: ['secret'] }, false],
  [{ type: 'file_search_call', id: 'fs_1', status: 'completed', queries: ['x'], results: [] }, false],
  [{ id: 'msg_1', more: 1 }, false],
  [{ id: 'msg_1', type: null, output: 'x' }, false],
  [{ id: 'msg_1', role: 'user', content: 'x' }, true],
  [{ type: 'compaction_trigger', id: null }, true],
])('an input item %j: %s', (item, passes) => {
  for (const field of ['input', 'instructions']) {
    expect(refusedAt('/v1/responses', { [field]: [{ role: 'user', content: 'x' }, item] }) === undefined, field).toBe(passes);
  }
  expect(refusedAt('/v1/responses', { input: item }) === undefined).toBe(passes); // no list
});

test('what Azure searches for a request is stored', () => {
  expect(refusedAt('/v1/chat/completions', { data_sources: [{ type: 'azure_search', parameters: { index_name: 'i' } }] })).toBe('/data_sources');
});
