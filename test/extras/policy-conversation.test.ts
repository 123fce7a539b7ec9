import { describe, expect, test } from 'vitest';
import { judgeBody } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';
import { LastDocument } from '../../src/extras/policy/last-document.ts';
import { readJsonObject } from '../../src/extras/policy/strict-json.ts';
import { Random, seed } from '../support/random.ts';

/** Long enough to be compared: what two documents have in common is only looked for in whole blocks, and to the shorter one's end. */
const padding = 'x'.repeat(9_000);

describe('a document that begins like the last one says what it would have said alone', () => {
  const rest = '],"b":{"c":[1,{"d":[true]}]}}';
  const beginning = `{"a":[{"text":"${padding}"},`;
  test.each([
    ['the same once more', '1', '1'],
    ['with an item more', '{"x":1}', '{"x":1},{"y":2}'],
    ['with an item less', '{"x":1},{"y":2}', '{"x":1}'],
    ['a number that goes on', '1', '12'],
    ['a number that goes on with an exponent', '1', '1e5'],
    ['a number that ends sooner', '12', '1'],
    ['a text that goes on', '"a"', '"a\\""'],
    ['that is broken', '{"x":1}', '{"x":1}}'],
    ['that names something twice in a new item', '{"x":1}', '{"x":1},{"x":1,"x":2}'],
    ['with a control character in a new item', '{"x":1}', '{"x":1},"\n"'],
    ['with a line break before, and a control character in a new item', '\n{"x":1}', '\n{"x":1},"\n"'],
    ['with a line break before, and none after', '\n{"x":1}', '\n{"x":1},"n"'],
    ['with a wrong escape in a new item', '"\\n"', '"\\n","\\x"'],
  ])('%s', (_, first, second) => {
    const last = new LastDocument();
    readJsonObject(Buffer.from(beginning + first + rest), last);
    for (let time = 0; time < 2; time++) {
      expect(readJsonObject(Buffer.from(beginning + second + rest), last)).toEqual(readJsonObject(Buffer.from(beginning + second + rest)));
    }
  });

  test('and so do a thousand random ones', () => {
    const random = new Random(seed);
    const last = new LastDocument();
    const pieces = ['1', '-2.5e3', '"a"', '"\\u00e9é\\n"', `"${padding}"`, 'null', '{"a":1}', '{"a":{"b":[1,2,{}]},"c":"\\""}', '[[],[1]]', ' 7 ', '{"a":1,"a":2}', '"\t"', ''];
    let body = '{"input":[1]}';
    for (let round = 0; round < 1000; round++) {
      const at = random.chance(0.7) ? body.lastIndexOf(']') : random.whole(0, body.length);
      body = random.chance(0.1) ? `{"input":[${random.pick(pieces)}]}` : `${body.slice(0, at)},${random.pick(pieces)}${body.slice(at)}`;
      const bytes = Buffer.from(body);
      const reading = readJsonObject(bytes, last);
      expect(reading, `seed ${seed}, round ${round}`).toEqual(readJsonObject(bytes));
      if (reading.kind === 'invalid' || body.length > 100_000) body = '{"input":[1]}';
    }
  });
});

describe('each turn of a conversation is judged like the first', () => {
  const policy = parsePolicy('{"tools":["function"],"remote_urls":false}', '/v1/responses');
  const turn = (items: readonly object[], ...more: string[]): Buffer => Buffer.from(`{"input":${JSON.stringify([{ content: padding }, ...items])}${more.join('')}}`);
  const rule = (body: Buffer): string | undefined => judgeBody(policy, body).refusal?.rule;

  test('a new item is', () => {
    expect(rule(turn([{ a: 1 }]))).toBe(undefined);
    expect(rule(turn([{ a: 1 }, { image_url: 'https://x' }]))).toBe('remote_urls');
    expect(rule(turn([{ a: 1 }, { image_url: 'https://x' }]))).toBe('remote_urls');
    expect(rule(turn([{ a: 1 }, { image_url: 'data:,' }]))).toBe(undefined);
  });

  test('and so is the very same request, sent again', () => {
    for (let time = 0; time < 3; time++) expect(rule(turn([{ image_url: 'https://x' }]))).toBe('remote_urls');
    for (let time = 0; time < 3; time++) expect(rule(turn([{ image_url: 'data:,' }]))).toBe(undefined);
    expect(rule(turn([{ image_url: 'https://x' }]))).toBe('remote_urls');
  });

  test('what comes behind the items is', () => {
    expect(rule(turn([{ a: 1 }], ',"tools":[{"type":"function"}]'))).toBe(undefined);
    expect(rule(turn([{ a: 1 }], ',"tools":[{"type":"mcp"}]'))).toBe('tools');
  });

  test('an item that passed in one field is judged again in another', () => {
    const item = { type: 'web_search_call', action: { type: 'open_page', url: 'https://x' } };
    const turnIn = (field: string): Buffer => Buffer.from(`{"${field}":${JSON.stringify([item])},"user":"${padding}"}`);
    expect(rule(turnIn('input'))).toBe(undefined);
    expect(rule(turnIn('extra'))).toBe('remote_urls');
    expect(rule(turnIn('input'))).toBe(undefined);
  });

  test('and no item passes for the sake of what comes behind it', () => {
    const turnWithSources = (...more: string[]): Buffer => Buffer.from(`{"sources":${JSON.stringify([{ content: padding }, { url: 'https://x' }])}${more.join('')}}`);
    for (const more of [',"type":"url_citation"', ',"type":"web_search_call"', '']) expect(rule(turnWithSources(more))).toBe('remote_urls');
  });
});
