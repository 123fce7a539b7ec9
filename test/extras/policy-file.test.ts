import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { defaultMaxBodyBytes, parsePolicy } from '../../src/extras/policy/policy.ts';
import { knownToolTypes } from '../../src/extras/policy/tool-types.ts';
import { exitCodes } from '../../src/run/failure.ts';
import { Failure } from '../../src/run/failure.ts';
import { checkout } from '../support/daemon-paths.ts';

type Schema = { [keyword: string]: unknown };

const schema = JSON.parse(readFileSync(join(checkout, 'src/extras/policy/policy.schema.json'), 'utf8')) as Schema & { properties: Record<string, Schema> };
const codexPolicy = readFileSync(join(checkout, 'scripts/policies/codex.json'), 'utf8');

/** Just the keywords that our schema uses; another one is a defect of this test. */
function conforms(value: unknown, { $schema, title, description, default: _, ...keywords }: Schema): boolean {
  return Object.entries(keywords).every(([keyword, wanted]) => {
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    switch (keyword) {
      case 'type':
        return { object: isObject, array: Array.isArray(value), integer: Number.isInteger(value), string: typeof value === 'string', boolean: typeof value === 'boolean' }[wanted as 'object'];
      case 'anyOf':
        return (wanted as Schema[]).some((inner) => conforms(value, inner));
      case 'enum':
        return (wanted as unknown[]).includes(value);
      case 'properties':
        return !isObject || Object.entries(wanted as Record<string, Schema>).every(([name, inner]) => !Object.hasOwn(value, name) || conforms((value as Schema)[name], inner));
      case 'additionalProperties':
        return !isObject || Object.keys(value).every((name) => Object.hasOwn(keywords['properties'] as object, name));
      case 'minProperties':
        return !isObject || Object.keys(value).length >= (wanted as number);
      case 'items':
        return !Array.isArray(value) || value.every((item) => conforms(item, wanted as Schema));
      case 'minItems':
        return !Array.isArray(value) || value.length >= (wanted as number);
      case 'uniqueItems':
        return !Array.isArray(value) || new Set(value).size === value.length;
      case 'pattern':
        return typeof value !== 'string' || new RegExp(wanted as string).test(value);
      case 'minimum':
        return typeof value !== 'number' || value >= (wanted as number);
      case 'maximum':
        return typeof value !== 'number' || value <= (wanted as number);
      default:
        throw new Error(`the test does not know the keyword ${keyword}`);
    }
  });
}

function failureOf(text: string, endpoint = '/v1/responses'): Failure {
  try {
    parsePolicy(text, endpoint);
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error(`no failure: ${text}`);
}

describe('a policy that is right', () => {
  test.each([
    '{"models":["gpt-5*"]}',
    '{"models":["*","a*b*c","ft:gpt-4o:org::id"]}',
    '{"tools":[]}',
    '{"tools":["function","custom","custom:a_tool_type_of_tomorrow"]}',
    '{"tools":["web_search:cached"]}',
    '{"fields":[]}',
    '{"fields":["client_metadata","extra-body","model"],"tools":[]}',
    '{"tools":["mcp","file_search"],"remote_urls":true,"stored_state":true,"background":false}',
    '{"remote_urls":false}',
    '{"stored_state":false}',
    '{"background":false}',
    '{"stream_only":true}',
    '{"max_output_tokens":1}',
    '{"max_output_tokens":9007199254740991}',
    '{"max_body_bytes":134217728}',
    '{"limits":{"concurrent":1,"requests_per_minute":100000,"tokens_per_day":1e6}}',
    '{"$schema":"x","mode":"shadow","limits":{"concurrent":1}}',
  ])('%s: conforms to the schema and is taken', (text) => {
    expect(conforms(JSON.parse(text), schema)).toBe(true);
    parsePolicy(text, '/v1/responses');
    parsePolicy(text, '/v1/chat/completions');
  });

  test('the example for Codex: conforms to the schema and is taken', () => {
    expect(conforms(JSON.parse(codexPolicy), schema)).toBe(true);
    expect(parsePolicy(codexPolicy, '/v1/responses').mode).toBe('enforce');
  });

  test('is enforced, and reads bodies up to 16 MiB, unless it says otherwise', () => {
    expect(parsePolicy('{"tools":[]}', '/v1/responses')).toMatchObject({ mode: 'enforce', readsBody: true, maxBodyBytes: defaultMaxBodyBytes, limits: undefined });
    expect(defaultMaxBodyBytes).toBe(16 * 1024 * 1024);
    expect(parsePolicy('{"mode":"shadow","tools":[]}', '/v1/responses').mode).toBe('shadow');
    expect(parsePolicy('{"max_body_bytes":1000}', '/v1/responses')).toMatchObject({ readsBody: true, maxBodyBytes: 1000, fields: undefined });
  });

  test('reads no body where only limits are asked for', () => {
    const { readsBody, fields, limits } = parsePolicy('{"limits":{"concurrent":2}}', '/v1/responses');
    expect({ readsBody, fields, limits }).toEqual({
      readsBody: false,
      fields: undefined,
      limits: { concurrent: 2, requestsPerMinute: undefined, tokensPerDay: undefined, tokensTotal: undefined },
    });
  });
});

describe('a policy that is wrong: the message names the place', () => {
  test.each([
    ['{"model":["gpt-5"]}', 'the policy has an unknown key "model"'],
    ['{"Models":["gpt-5"]}', 'the policy has an unknown key "Models"'],
    ['{"__proto__":{},"tools":[]}', 'the policy has an unknown key "__proto__"'],
    ['{"constructor":1,"tools":[]}', 'the policy has an unknown key "constructor"'],
    ['{"mode":"Enforce","tools":[]}', '/mode must be "enforce" or "shadow"'],
    ['{"mode":null,"tools":[]}', '/mode must be "enforce" or "shadow"'],
    ['{"$schema":1,"tools":[]}', '/$schema must be a string'],
    ['{"models":"gpt-5"}', '/models must be a list'],
    ['{"models":[]}', '/models must name a model'],
    ['{"models":["gpt-5",5]}', '/models/1 must be a model name'],
    ['{"models":["gpt 5"]}', '/models/0 must be a model name'],
    ['{"models":[""]}', '/models/0 must be a model name'],
    ['{"models":["gpt-5\\u0000"]}', '/models/0 must be a model name'],
    ['{"models":["gpt-5","gpt-5"]}', '/models/1 stands there twice'],
    ['{"tools":{"function":true}}', '/tools must be a list'],
    ['{"tools":[null]}', '/tools/0 must be a tool type'],
    ['{"tools":["Function"]}', '/tools/0 must be a tool type'],
    ['{"tools":["web_search:live"]}', '/tools/0 must be a tool type'],
    ['{"tools":["image_generation:cached"]}', '/tools/0 must be a tool type'],
    ['{"tools":["web_*"]}', '/tools/0 must be a tool type'],
    ['{"tools":["custom:Function"]}', '/tools/0 must be a tool type'],
    ['{"tools":["function","functon"]}', '/tools/1 names an unknown tool type, "functon"'],
    ['{"fields":"x"}', '/fields must be a list'],
    ['{"fields":["two words"]}', '/fields/0 must be the name of a field'],
    ['{"fields":["x","x"]}', '/fields/1 stands there twice'],
    ['{"remote_urls":"false"}', '/remote_urls must be true or false'],
    ['{"stored_state":0}', '/stored_state must be true or false'],
    ['{"background":null}', '/background must be true or false'],
    ['{"stream_only":1}', '/stream_only must be true or false'],
    ['{"max_output_tokens":0}', '/max_output_tokens must be a whole number from 1 to 9007199254740991'],
    ['{"max_output_tokens":1.5}', '/max_output_tokens must be a whole number'],
    ['{"max_output_tokens":"1000"}', '/max_output_tokens must be a whole number'],
    ['{"max_output_tokens":1e999}', '/max_output_tokens must be a whole number'],
    ['{"max_output_tokens":9007199254740993}', '/max_output_tokens must be a whole number'],
    ['{"max_body_bytes":134217729}', '/max_body_bytes must be a whole number from 1 to 134217728'],
    ['{"limits":[]}', '/limits must be an object'],
    ['{"limits":{}}', '/limits sets no limit'],
    ['{"limits":{"concurrency":1}}', '/limits has an unknown key "concurrency"'],
    ['{"limits":{"concurrent":0}}', '/limits/concurrent must be a whole number from 1 to 100000'],
    ['{"limits":{"requests_per_minute":-1}}', '/limits/requests_per_minute must be a whole number'],
    ['{"limits":{"tokens_per_day":null}}', '/limits/tokens_per_day must be a whole number'],
  ])('%s: %s', (text, message) => {
    const failure = failureOf(text);
    expect(failure.message).toContain(`--policy: ${message}`);
    expect(failure.hint).toBeTruthy();
    expect(failure.exitCode).toBe(exitCodes.failed);
    expect(conforms(JSON.parse(text), schema)).toBe(false);
  });

  // What a schema cannot say.
  test.each([
    ['', 'the policy is not JSON'],
    ['[]', 'the policy is not a JSON object'],
    ['{"tools":[],}', 'the policy is not JSON'],
    ['\ufeff{"tools":[]}', 'the policy is not JSON'],
    ['{} // nothing', 'the policy is not JSON'],
    ['{"tools":[],"tools":["mcp"]}', 'the policy gives a name twice, at /tools'],
    ['{"limits":{"concurrent":1,"c\\u006fncurrent":9}}', 'the policy gives a name twice, at /limits/concurrent'],
    ['{}', 'the policy restricts nothing'],
    ['{"mode":"shadow","remote_urls":true,"stream_only":false}', 'the policy restricts nothing'],
    ['{"tools":["mcp"],"remote_urls":false}', '/tools allows mcp, which "remote_urls": false refuses'],
    ['{"tools":["function","custom:function"]}', '/tools/1 stands there twice'],
    ['{"fields":["data_sources"],"remote_urls":false}', '/fields/0 allows data_sources, which "remote_urls" refuses'],
    ['{"fields":["x","prompt"],"tools":[]}', '/fields/1 allows prompt, which "tools" refuses'],
    ['{"tools":["function","file_search"],"stored_state":false}', '/tools allows file_search, which "stored_state": false refuses'],
  ])('%s: %s', (text, message) => {
    expect(failureOf(text).message).toContain(`--policy: ${message}`);
  });

  test('a slip in a tool type is told with the known ones', () => {
    const { message, hint } = failureOf('{"tools":["custom","functon"]}');
    expect(message).toContain('/tools/1 names an unknown tool type');
    expect(hint).toContain([...knownToolTypes].join(', '));
    expect(hint).toContain('custom:functon');
    parsePolicy('{"tools":["custom","custom:functon"]}', '/v1/responses');
  });

  test('the schema lists the tool types that the daemon knows', () => {
    const items = schema.properties['tools']?.['items'] as { anyOf: [{ enum: string[] }, Schema] };
    expect(new Set(items.anyOf[0].enum)).toEqual(new Set([...knownToolTypes, 'web_search:cached']));
  });

  test.each(['[]', '{"models":[5]}'])('%s: the hint has the whole path of the schema', (text) => {
    const [path = ''] = failureOf(text).hint?.match(/\/.*\.json/) ?? [];
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(schema);
  });

  test('control characters of the file do not reach the terminal', () => {
    expect(failureOf('{"\\u001b[31m":1}').message).toContain('"\\u001b[31m"');
  });

  test('the source has the name that the caller gives it', () => {
    expect(() => parsePolicy('{}', '/v1/responses', '--policy ci.json')).toThrow('--policy ci.json: the policy restricts nothing');
  });
});

describe('rules that do not apply to the endpoint are refused', () => {
  test.each(['models', 'tools', 'remote_urls', 'stored_state', 'background', 'max_output_tokens', 'stream_only', 'fields'])('%s for /v1/embeddings', (rule) => {
    const value = { models: '["m"]', tools: '[]', fields: '[]', max_output_tokens: '1', stream_only: 'true' }[rule] ?? 'false';
    expect(failureOf(`{"${rule}":${value}}`, '/v1/embeddings').message).toBe(`--policy: /${rule} does not apply to /v1/embeddings`);
  });

  test('limits and max_body_bytes apply to every endpoint', () => {
    const policy = parsePolicy('{"max_body_bytes":1000,"limits":{"concurrent":1},"remote_urls":true}', '/v1/embeddings');
    expect(policy).toMatchObject({ readsBody: true, maxBodyBytes: 1000, fields: undefined });
  });

  test.each(['/v1/responses', '/openai/v1/responses', '/v1/chat/completions', '/openai/deployments/x/chat/completions'])('%s is known by its end', (endpoint) => {
    expect(parsePolicy('{"tools":[]}', endpoint).fields).toBeDefined();
  });

  test.each(['/v1/responses/', '/v1/completions', '/v1/Responses', '/v1/xresponses', '/v1/responses/compact'])('%s is another one', (endpoint) => {
    expect(failureOf('{"tools":[]}', endpoint).message).toContain(`does not apply to ${endpoint}`);
  });
});

test('every key of the schema says what it does', () => {
  const limits = (schema.properties['limits'] as { properties: Record<string, Schema> }).properties;
  for (const [name, { description }] of [...Object.entries(schema.properties), ...Object.entries(limits)]) {
    expect(description, name).toMatch(/\.$/);
  }
});
