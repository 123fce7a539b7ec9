import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AuditEntries } from '../../src/extras/audit/audit-entry.ts';
import { type AuditRecord, recordText, targetOf, traceparentOf } from '../../src/extras/audit/audit-record.ts';
import { MemoryBudget } from '../../src/extras/whole-body.ts';
import { endpoint, openLog, record, requestsOf } from '../support/audit.ts';
import { scratchFolder } from '../support/scratch.ts';

const canary = 'CANARY5ecret';

function written(given: Partial<AuditRecord>): Record<string, unknown> {
  const text = recordText(record(given), endpoint);
  expect(text).toMatch(/^[\x20-\x7e]+$/);
  return JSON.parse(text) as Record<string, unknown>;
}

test('a record has these fields, and no others', () => {
  expect(written({ rule: 'models', decision: 'would_refuse' })).toEqual({
    kind: 'request',
    time: '2026-01-31T12:00:00.000Z',
    id: '0123456789abcdef',
    uid: 1000,
    method: 'POST',
    target: '/v1/responses',
    decision: 'would_refuse',
    rule: 'models',
    model: 'gpt-5',
    stream: true,
    status: 200,
    bytes_up: 55_000,
    bytes_down: 12_000,
    head_ms: 123.5,
    total_ms: 2345.7,
    ended: 'complete',
    upstream_request_id: 'req_0123456789abcdef0123456789abcdef',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    usage: { input: 1200, cached: 1024, output: 300, reasoning: 64, total: 1500 },
  });
});

test('what is not known is left out', () => {
  const nothing = { uid: undefined, method: undefined, target: undefined, rule: undefined, model: undefined, stream: undefined, status: undefined,
    headMs: undefined, upstreamRequestId: undefined, traceparent: undefined, usage: undefined };
  expect(Object.keys(written(nothing))).toEqual(['kind', 'time', 'id', 'decision', 'bytes_up', 'bytes_down', 'total_ms', 'ended']);
});

test('nothing that is added to a record is written', () => {
  const usage = { ...record().usage, [canary]: canary };
  expect(recordText({ ...record(), usage, prompt: canary, [canary]: 1 } as never, endpoint)).not.toContain(canary);
});

describe('texts are checked', () => {
  const odd = `x\n\r\t\0\u001b[31m"'\\\u00e9\u202e\u{1f600}${canary}`;
  test('a model is escaped and cut', () => {
    expect(written({ model: 'a\nb\u001b[31m\\"\u202e' })['model']).toBe('a\\u000ab\\u001b[31m\\u005c"\\u202e');
    expect(written({ model: 'm'.repeat(1000) })['model']).toBe(`${'m'.repeat(125)}...`);
    expect(String(written({ model: '\u202e'.repeat(1000) })['model'])).toHaveLength(128);
  });
  test.each<keyof AuditRecord>(['method', 'rule', 'upstreamRequestId', 'traceparent', 'id'])('a %s with other characters than it can have is left out', (field) => {
    for (const text of [odd, canary.repeat(50), `${String(record()[field])}\n`, ` ${canary}`, '']) expect(JSON.stringify(written({ [field]: text }))).not.toContain(canary);
    expect(recordText(record({ [field]: `${String(record()[field] ?? 'rule')}\n` }), endpoint)).toBe(recordText(record({ [field]: undefined }), endpoint));
  });
  test('numbers are whole and not negative, times finite', () => {
    const wrong = { uid: -1, status: 1.5, bytesUp: Number.NaN, bytesDown: 2 ** 60, headMs: Infinity, totalMs: Number.NaN,
      usage: { input: -5, cached: canary as never, output: 1.5, reasoning: Infinity, total: 7 } };
    expect(written(wrong)).toMatchObject({ usage: { total: 7 } });
    expect(Object.keys(written(wrong))).not.toEqual(expect.arrayContaining(['uid', 'status', 'bytes_up', 'bytes_down', 'head_ms', 'total_ms']));
    expect(written(wrong)['usage']).toEqual({ total: 7 });
  });
});

describe('a target shows which route was asked for, and no secret', () => {
  test.each([
    ['/v1/responses', '/v1/responses'],
    ['/v1/models', '/v1/models'],
    ['/v1/chat/completions', '/v1/chat/completions'],
    ['/v1/fine_tuning/jobs', '/v1/fine_tuning/jobs'],
    ['/shutdown', '/shutdown'],
    ['/', '/'],
    ['//v1//responses/', '//v1//responses/'],
    ['/../.env', '/../.env'],
    ['/v1/models?key=sk-proj-abcdefghijklmnop', '/v1/models?*'],
    ['/v1/models?', '/v1/models?*'],
    ['/v1/models#sk-proj-abc', '/v1/models?*'],
    ['/v1/responses/resp_0123456789', '/v1/responses/*'],
    ['/sk-abcdefghijklmnopqrstuvwxyzabcdefgh/x', '/*/x'],
    ['/v1/r%65sponses', '/v1/*'],
    ['/V1/RESPONSES', '/*/*'],
    ['/v1/\u001b[31m', '/v1/*'],
    ['http://api.openai.com/v1/responses', '*'],
    ['user:password@host:443', '*'],
    ['*', '*'],
    ['', '*'],
    [`/${'a/'.repeat(500)}`, `/${'a/'.repeat(62)}...`],
  ])('%s is written as %s', (target, expected) => {
    expect(targetOf(target, endpoint)).toBe(expected);
  });

  test('the endpoint is written as it is, whatever it is', () => {
    const azure = '/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21';
    expect(targetOf(azure, azure)).toBe(azure);
  });
});

test.each([
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', true],
  ['cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', true],
  ['00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01', false],
  ['ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', false],
  ['00-00000000000000000000000000000000-b7ad6b7169203331-01', false],
  ['00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01', false],
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more', false],
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331', false],
  ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ', false],
])('traceparent %s: %s', (value, isValid) => {
  expect(traceparentOf(value)).toBe(isValid ? value : undefined);
});

test('of a traceparent of a later version, only what is known is kept', () => {
  const known = '01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  expect(traceparentOf(`${known}-${canary}`)).toBe(known);
  expect(traceparentOf(`${known}${canary}`)).toBe(undefined);
});

describe('an exchange', () => {
  const held = new MemoryBudget(1024 * 1024);
  const names = ['authorization', 'cookie', 'x-api-key', 'user-agent', 'host', 'x-request-id', 'session-id', 'originator', 'content-type', 'accept', 'tracestate', 'x-codex-turn', 'traceparent'];
  const headers = names.flatMap((name) => [name, `${canary}-${name}`]);
  const bodyOf = (more: object): Buffer => Buffer.from(JSON.stringify({
    input: canary, instructions: canary, tools: [{ type: canary, name: canary, model: canary, stream: canary }], metadata: { model: canary, [canary]: canary },
    user: canary, prompt_cache_key: canary, previous_response_id: canary, safety_identifier: canary, service_tier: canary, ...more,
  }));

  test('has no canary of any header or body field in its record', () => {
    const file = join(scratchFolder(), 'audit.log');
    const log = openLog(file);
    const entries = new AuditEntries((done) => log.append(done));
    for (const form of ['application/json', 'text/event-stream'] as const) {
      const entry = entries.begin({ uid: 1000, method: 'POST', target: endpoint, rawHeaders: headers });
      entry.readBody(held);
      entry.sent(bodyOf({ model: 'gpt-5', stream: true }));
      entry.head(200, [...headers.filter((_, index) => index % 2 === 0).flatMap((name) => name === 'x-request-id' ? [] : [name, canary]), 'Content-Type', form, 'X-Request-Id', 'req_1'], held);
      const answer = JSON.stringify({ id: canary, output: [{ text: canary }], error: canary, instructions: canary, usage: { input_tokens: 1, [canary]: 2, input_tokens_details: { cached_tokens: canary } } });
      entry.received(Buffer.from(form === 'application/json' ? answer : `event: response.completed\nid: ${canary}\ndata: {"type":"response.completed","response":${answer}}\n\n`));
      entry.end('complete');
    }
    for (const target of [`/${canary}`, `/v1/models?${canary}`, `http://${canary}/`, canary]) {
      entries.begin({ uid: undefined, method: canary, target, rawHeaders: headers }).refuse(403, 'endpoint_not_allowed');
    }
    expect(readFileSync(file, 'latin1')).not.toContain(canary);
    const [json, events, refused] = requestsOf(file);
    for (const line of [json, events]) expect(line).toMatchObject({ model: 'gpt-5', stream: true, status: 200, upstream_request_id: 'req_1', ended: 'complete', usage: { input: 1 } });
    expect(json?.['bytes_up']).toBe(bodyOf({ model: 'gpt-5', stream: true }).length);
    expect(refused).toMatchObject({ decision: 'refused', rule: 'endpoint_not_allowed', status: 403, ended: 'refused' });
  });

  test('is recorded once, whatever is called', () => {
    const kept: AuditRecord[] = [];
    const entries = new AuditEntries((done) => kept.push(done));
    const entry = entries.begin({ uid: 0, method: 'POST', target: endpoint, rawHeaders: [] });
    entry.end('client_left');
    entry.end('complete', 200);
    entry.refuse(403, 'models');
    entries.stop();
    expect(kept.map(({ ended, status, decision }) => [ended, status, decision])).toEqual([['client_left', undefined, 'allowed']]);
  });

  test('that is running when the daemon stops is recorded', () => {
    const kept: AuditRecord[] = [];
    const entries = new AuditEntries((done) => kept.push(done));
    const running = entries.begin({ uid: 0, method: 'POST', target: endpoint, rawHeaders: [] });
    entries.begin({ uid: 0, method: 'POST', target: endpoint, rawHeaders: [] }).end('complete');
    entries.stop();
    expect(kept.map(({ ended }) => ended)).toEqual(['complete', 'stopped']);
    expect(kept[1]?.id).toBe(running.id);
    expect(running.id).toMatch(/^[0-9a-f]{16}$/);
  });

  test('what a policy read counts more than what the answer says; what it would refuse is noted', () => {
    const kept: AuditRecord[] = [];
    const entry = new AuditEntries((done) => kept.push(done)).begin({ uid: 0, method: 'POST', target: endpoint, rawHeaders: ['Content-Encoding', 'zstd'] });
    entry.readBody(held);
    entry.asks({ model: 'gpt-5', stream: false, serviceTier: 'priority', reasoningMode: 'pro' });
    entry.wouldRefuse('models');
    entry.wouldRefuse('tools');
    entry.head(200, ['content-type', 'application/json'], held);
    entry.received(Buffer.from('{"model":"gpt-5-2025-08-07"}'));
    entry.end('complete');
    expect(kept).toMatchObject([{ model: 'gpt-5', serviceTier: 'priority', reasoningMode: 'pro', stream: false, decision: 'would_refuse', rule: 'models' }]);
  });

  test.each([
    ['{"model":"gpt-5","input":"x"}', { model: 'gpt-5', stream: false }],
    ['{"model":"gpt-5","service_tier":"flex","reasoning":{"mode":"pro"}}', { model: 'gpt-5', serviceTier: 'flex', reasoningMode: 'pro', stream: false }],
    ['{"model":"gpt-5","service_tier":["flex"],"reasoning":"pro"}', { model: 'gpt-5', serviceTier: undefined, reasoningMode: undefined, stream: false }],
    ['{"model":"gpt-5","stream":true}', { model: 'gpt-5', stream: true }],
    ['{"model":5,"stream":"true"}', { model: 'gpt-5-2025-08-07', stream: undefined }],
    ['{"model":"gpt-5","stream":true', { model: 'gpt-5-2025-08-07', stream: undefined }],
    [`{"model":"gpt-5","input":"${'x'.repeat(1024 * 1024)}"}`, { model: 'gpt-5-2025-08-07', stream: undefined }],
  ])('without a policy, model and stream are read out of the body: %.40s', (body, facts) => {
    const kept: AuditRecord[] = [];
    const entry = new AuditEntries((done) => kept.push(done)).begin({ uid: 0, method: 'POST', target: endpoint, rawHeaders: [] });
    entry.readBody(held);
    for (let at = 0; at < body.length; at += 1000) entry.sent(Buffer.from(body.slice(at, at + 1000)));
    entry.head(200, ['content-type', 'application/json'], held);
    entry.received(Buffer.from('{"model":"gpt-5-2025-08-07"}'));
    entry.end('complete');
    expect(kept.map(({ model, stream, serviceTier, reasoningMode }) => ({ model, stream, serviceTier, reasoningMode }))).toEqual([facts]);
  });

  test('a body that cannot be read leaves the model to the answer', () => {
    const kept: AuditRecord[] = [];
    const entry = new AuditEntries((done) => kept.push(done)).begin({ uid: 0, method: 'POST', target: endpoint, rawHeaders: ['Content-Encoding', 'gzip'] });
    entry.readBody(held);
    entry.sent(Buffer.from('{"model":"not compressed at all"}'));
    entry.head(200, ['content-type', 'application/json'], held);
    entry.received(Buffer.from('{"model":"gpt-5-2025-08-07"}'));
    entry.end('complete');
    expect(kept.map(({ model, stream }) => ({ model, stream }))).toEqual([{ model: 'gpt-5-2025-08-07' }]);
  });
});

test('a tier and a mode are in the record, as words', () => {
  const written = (given: object): unknown => JSON.parse(recordText(record(given), endpoint));
  expect(written({ serviceTier: 'ultrafast', reasoningMode: 'pro' })).toMatchObject({ service_tier: 'ultrafast', reasoning_mode: 'pro' });
  for (const text of ['sk-Canary', 'a'.repeat(33), 'a b', '"']) {
    expect(written({ serviceTier: text, reasoningMode: text })).not.toHaveProperty('service_tier');
    expect(written({ serviceTier: text, reasoningMode: text })).not.toHaveProperty('reasoning_mode');
  }
});

test('the longest record stays far below the longest line', () => {
  const file = join(scratchFolder(), 'audit.log');
  const most = Number.MAX_SAFE_INTEGER;
  const log = openLog(file);
  const { size } = statSync(file);
  log.append(record({ uid: most, method: 'M'.repeat(20), target: `/${'a/'.repeat(500)}`, decision: 'would_refuse', rule: 'r'.repeat(128), model: '"'.repeat(500), status: most,
    bytesUp: most, bytesDown: most, headMs: 1e9, totalMs: 1e9, ended: 'upstream_failed', upstreamRequestId: 'r'.repeat(128), usage: { input: most, cached: most, output: most, reasoning: most, total: most } }));
  expect(statSync(file).size - size).toBeLessThan(1500);
});
