import { describe, expect, test } from 'vitest';
import { judgeBody } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';

const policy = parsePolicy(
  JSON.stringify({
    models: ['gpt-5', 'gpt-5-*'],
    tools: ['function'],
    remote_urls: false,
    stored_state: false,
    background: false,
    max_output_tokens: 1000,
    stream_only: true,
  }),
  '/v1/responses',
);

/** What a request needs to pass, in front of what is tried; `model` left out where that is what is tried. */
const rest = '"stream":true,"store":false,"max_output_tokens":1000,"input":"x"';
const base = `"model":"gpt-5",${rest}`;

function refusalOf(body: string | Buffer): string {
  const { refusals: [refusal] } = judgeBody(policy, Buffer.from(body as string));
  return refusal === undefined ? 'admitted' : `${refusal.status} ${refusal.rule}`;
}

test('the request that the others vary passes', () => {
  expect(refusalOf(`{${base}}`)).toBe('admitted');
});

describe('two parsers that disagree', () => {
  test('bytes of another encoding, or of none', () => {
    expect(refusalOf(Buffer.from(`{${base}}`, 'utf16le'))).toBe('400 body');
    const overlong = Buffer.concat([Buffer.from(`{${base},"a":"`), Buffer.from([0xc0, 0xa2]), Buffer.from('"}')]);
    expect(refusalOf(overlong)).toBe('400 body');
  });

  test.each([
    // The same name twice: one reader takes the first, another the last.
    [`{${base},"model":"gpt-5"}`, '400 body'],
    [`{${base},"model":"gpt-4"}`, '400 body'],
    [`{${base},"mod\\u0065l":"gpt-4"}`, '400 body'],
    [`{${base},"\\u006D\\u006F\\u0064\\u0065\\u006C":"gpt-4"}`, '400 body'],
    [`{${base},"tools":[{"type":"function","type":"mcp"}]}`, '400 body'],
    [`{${base},"tools":[{"type":"function","t\\u0079pe":"mcp"}]}`, '400 body'],
    [`{${base},"metadata":{"a":"1","a":"2"}}`, '400 body'],
    [`{${base},"tools":[{"type":"function","parameters":{"x":[[{"y":1,"y":2}]]}}]}`, '400 body'],
    // More than one document, or something around it.
    [`{${base}}{"model":"gpt-4"}`, '400 body'],
    [`{${base}}\n{"model":"gpt-4"}\n`, '400 body'],
    [`{${base}}\0`, '400 body'],
    [`\ufeff{${base}}`, '400 body'],
    // What only lenient readers take for JSON.
    [`{${base},}`, '400 body'],
    [`{${base}/*,"model":"gpt-4"*/}`, '400 body'],
    [`{${base},'model':'gpt-4'}`, '400 body'],
    [`{${base},"a":NaN}`, '400 body'],
    [`{${base},"a":"\n"}`, '400 body'],
    [`[{${base}}]`, '400 body'],
    [`{${base},"a":${'['.repeat(64)}${']'.repeat(64)}}`, '400 body'],
    [`{${base},"metadata":${'['.repeat(63)}${']'.repeat(63)}}`, 'admitted'],
  ])('%#: %j', (body, expected) => {
    expect(refusalOf(body)).toBe(expected);
  });
});

describe('a name that a lenient reader takes for another', () => {
  test.each([
    [`{${base},"Model":"gpt-4"}`, '400 models'],
    [`{${base},"MODEL":"gpt-5"}`, '400 models'],
    [`{${base},"model ":"gpt-4"}`, '400 models'],
    [`{${base},"model\\u0000":"gpt-4"}`, '400 models'],
    [`{${base},"mo\\ud800del":"gpt-4"}`, '400 fields'],
    [`{${base},"\uff4d\uff4f\uff44\uff45\uff4c":"gpt-4"}`, '400 fields'], // fullwidth
    [`{${base},"\\uff4dodel":"gpt-4"}`, '400 fields'],
    [`{${base},"Tools":[]}`, '400 tools'],
    [`{${base},"tool\u017f":[]}`, '400 fields'], // long s: what Go's encoding/json takes for an s
    [`{${base},"toolChoice":"auto"}`, '400 tools'],
    [`{${base},"tool-choice":"auto"}`, '400 tools'],
    [`{${base},"\u212aind":1,"bac\u212aground":true}`, '400 fields'], // Kelvin sign
    [`{${base},"Store":true}`, '400 stored_state'],
    [`{${base},"previousResponseId":"x"}`, '400 stored_state'],
    [`{${base},"Previous_Response_ID":"x"}`, '400 stored_state'],
    [`{${base},"Stream":false}`, '400 stream_only'],
    [`{${base},"maxOutputTokens":1}`, '400 max_output_tokens'],
    [`{${base},"tools":[{"type":"function","Type":"mcp"}]}`, '400 tools'],
    [`{${base},"x":{"Tools":[{"type":"mcp"}]}}`, '400 tools'],
    [`{${base},"x":{"fileId":"file-1"}}`, '400 stored_state'],
    [`{${base},"x":{"imageUrl":"https://x"}}`, '400 remote_urls'],
    [`{${base},"x":{"IMAGE_URL":"https://x"}}`, '400 remote_urls'],
    [`{${base},"Input":[{"id":"msg_1"}]}`, '400 stored_state'],
  ])('%j', (body, expected) => {
    expect(refusalOf(body)).toBe(expected);
  });

  test.each([
    `{${base},"temperature":1,"user":"x","prompt_cache_key":"k","text":{"Unknown":1}}`,
    `{${base},"metadata":{"Model":"x","fileId":"y"}}`,
    `{${base},"tools":[{"type":"function","parameters":{"properties":{"Type":{},"fileId":{}}}}]}`,
    `{${base},"text":{"model_x":"gpt-4"}}`,
  ])('other names stay free: %j', (body) => {
    expect(refusalOf(body)).toBe('admitted');
  });

  test('names beyond ASCII stand in schemas and maps alone', () => {
    const names = Array.from({ length: 4000 }, (_, index) => `"\ufdfa${index}":1`).join(',');
    expect(refusalOf(`{${base},"text":{"\ufdfa":1}}`)).toBe('400 fields');
    expect(refusalOf(`{${base},"metadata":{${names}},"tools":[{"type":"function","parameters":{${names}}}]}`)).toBe('admitted');
  });

  test('a very long name costs little and is refused', () => {
    expect(refusalOf(`{${base},"${'\ufdfa'.repeat(100_000)}":1}`)).toBe('400 body');
  });
});

describe('a list of tools that calls itself one of an MCP server', () => {
  const judge = (body: object): string => {
    const { refusals: [refusal] } = judgeBody(parsePolicy('{"tools":["function","mcp"]}', '/v1/responses'), Buffer.from(JSON.stringify(body)));
    return refusal === undefined ? 'admitted' : `${refusal.rule} ${/at (\S+)\.$/.exec(refusal.message)?.[1]}`;
  };
  const list = { type: 'mcp_list_tools', tools: [{ type: 'web_search' }, { type: 'code_interpreter', container: { type: 'auto' } }] };

  test.each([
    [list, 'tools /tools/0/type'],
    [{ input: [{ role: 'user', content: [list] }] }, 'tools /input/0/content/0/tools/0/type'],
    [{ input: [{ type: 'additional_tools', tools: [{ ...list, type: 'namespace' }] }] }, 'tools /input/0/tools/0/type'],
    [{ tools: [list] }, 'tools /tools/0/type'],
    [{ tool_choice: { ...list, type: 'allowed_tools' } }, 'tools /tool_choice/tools/0/type'],
    [{ tool_choice: list }, 'tools /tool_choice/type'],
    [{ input: [list] }, 'tools /input/0/tools'],
    [{ input: [{ ...list, tools: [{ name: 'a' }, { name: 'b', type: 'web_search' }] }] }, 'tools /input/0/tools'],
    [{ input: [{ ...list, tools: ['web_search'] }] }, 'tools /input/0/tools'],
    [{ input: [{ ...list, tools: [{ name: 'a', input_schema: { type: 'object' }, annotations: { title: 'A' } }] }] }, 'admitted'],
  ])('%j: %s', (body, expected) => {
    expect(judge(body)).toBe(expected);
  });
});

describe('a value that is nearly allowed', () => {
  test.each([
    ['"GPT-5"', '400 models'],
    ['"gpt-5 "', '400 models'],
    ['" gpt-5"', '400 models'],
    ['"gpt-5\\u0000"', '400 models'],
    ['"gpt-5-\\u0000"', '400 models'],
    ['"gpt-5-\\u202e"', '400 models'],
    ['"gpt-5-\\ud800"', '400 models'],
    ['"gpt-5-é"', '400 models'],
    [`"gpt-5-${'x'.repeat(600)}"`, '400 models'],
    ['"gpt\\u002d5"', 'admitted'],
    ['["gpt-5"]', '400 models'],
    ['{"id":"gpt-5"}', '400 models'],
    ['true', '400 models'],
    ['null', '400 models'],
  ])('model %s', (model, expected) => {
    expect(refusalOf(`{"model":${model},${rest}}`)).toBe(expected);
  });

  test.each([
    ['"Function"', '400 tools'],
    ['"function "', '400 tools'],
    ['"function\\u0000"', '400 tools'],
    ['"MCP"', '400 tools'],
    ['"mcp"', '400 tools'],
    ['"\uff46unction"', '400 tools'],
    ['["function"]', '400 tools'],
    ['1e999', '400 tools'],
    ['"\\u0066unction"', 'admitted'],
  ])('tool type %s', (type, expected) => {
    expect(refusalOf(`{${base},"tools":[{"type":${type}}]}`)).toBe(expected);
  });

  test.each(['1001', '1000.5', '1e3', '1e999', '-1', '0', '99999999999999999999', '"1000"', 'true', '1e-999'])('max_output_tokens %s', (tokens) => {
    const expected = tokens === '1e3' ? 'admitted' : '400 max_output_tokens';
    expect(refusalOf(`{"model":"gpt-5","stream":true,"store":false,"max_output_tokens":${tokens}}`)).toBe(expected);
  });

  test('huge numbers elsewhere pass as they are', () => {
    expect(refusalOf(`{${base},"temperature":1e999,"top_logprobs":123456789012345678901234567890}`)).toBe('admitted');
  });

  test.each([
    ['"https:\\/\\/example.com"', '400 remote_urls'],
    ['"\\u0068ttps://example.com"', '400 remote_urls'],
    ['"\\tdata:image/png;base64,"', '400 remote_urls'],
    ['"https://example.com#data:image/png;base64,"', '400 remote_urls'],
    ['"\\u0064ata:image/png;base64,AA=="', 'admitted'],
    ['["https://example.com"]', '400 remote_urls'],
    ['{"url":"https://example.com"}', '400 remote_urls'],
    ['{"0":{"uri":"https://example.com"}}', '400 remote_urls'],
    [`"${'\\u0068'.repeat(200)}ttps://example.com"`, '400 remote_urls'],
  ])('image_url %s', (url, expected) => {
    expect(refusalOf(`{"model":"gpt-5","stream":true,"store":false,"max_output_tokens":1,"input":[[{"content":[{"type":"input_image","image_url":${url}}]}]]}`)).toBe(
      expected,
    );
  });

  test.each([`"\\u0068ttps://x/${'a'.repeat(600)}"`, `"\\u000ahttps://x/${'a'.repeat(600)}"`, `"HTTPS://x/${'\\n'.repeat(600)}"`])('a URL where data should be: %#', (data) => {
    expect(refusalOf(`{${base},"x":{"file_data":${data}}}`)).toBe('400 remote_urls');
  });
});

describe('names that objects of JavaScript have', () => {
  test.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'])('%s is no way around', (name) => {
    expect(refusalOf(`{${rest},"${name}":{"model":"gpt-5"}}`)).toBe('400 models');
    expect(refusalOf(`{${base},"${name}":{"tools":[{"type":"mcp"}]}}`)).toBe('400 tools');
    expect(refusalOf(`{${base},"tools":[{"type":"${name}"}]}`)).toBe('400 tools');
    expect(refusalOf(`{${base},"${name}":1}`)).toBe('400 fields');
  });
});

test('a message says what and where, is short, and is one line of printable text', () => {
  const { refusals: [refusal] } = judgeBody(policy, Buffer.from(`{${base},"tools":[{"type":"mcp\\u001b[31m${'x'.repeat(10_000)}"}]}`));
  expect(refusal?.message).toMatch(/^The policy \(tools\) does not allow a type that is no name, at \/tools\/0\/type\.$|^The policy \(tools\) does not allow the tool type /);
  expect(refusal?.message).toMatch(/^[\x20-\x7e\u2026]{1,400}$/);
});
