import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { linesOf } from '../support/audit.ts';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { chatCompletions, responses, type Endpoint } from '../support/endpoints.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunked } from '../support/http-bytes.ts';
import { refusalOf } from '../support/messages.ts';
import { policyArgs, policyFile } from '../support/policy.ts';
import { type Proxied, asking, startBoth } from '../support/proxied.ts';
import { type RawResponse, ask, connect } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

const json: readonly [string, string] = ['Content-Type', 'application/json'];

function startWith(policy: object, ...args: readonly string[]): Promise<Proxied> {
  return startAt(responses, policy, ...args);
}

async function startAt(endpoint: Endpoint, policy: object, ...args: readonly string[]): Promise<Proxied> {
  const both = await startBoth({ endpoint, args: [...policyArgs(policy), ...args] });
  both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":100}}'));
  return both;
}

function post(both: Proxied, body: string, headers: ReadonlyArray<readonly [string, string]> = [json]): Promise<RawResponse> {
  return both.ask({ headers, body });
}

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

test('the log names who was denied, whatever part of a request it was for', async () => {
  const { daemon } = await startWith({ models: ['gpt-*'], tools: [] }, '--allow-user', String(process.getuid?.()));
  await ask(daemon.port, { headers: [json], body: '{"model":"o1"}' });
  await daemon.waitForStderr(/^responses-api-proxy: refused \(policy_denied\): ".*" from uid \d+$/m);
});

describe('a policy that reads the body:', () => {
  let both: Proxied;

  beforeAll(async () => {
    both = await startWith({ models: ['gpt-*'], max_body_bytes: 100_000 });
  });

  beforeEach(() => {
    both.startOver(answer(200, '{}'));
    before = both.upstream.requests.length;
  });

  let before: number;
  const sent = (): number => both.upstream.requests.length - before;

  const granted = `{"model":"gpt-5","user":"${'x'.repeat(99_880)}","top_p":1e2, "safety_identifier" :"\\u00e9\xc3\xa9"}`; // latin1

  test('exactly the bytes that it judged go up', async () => {
    expect((await post(both, granted)).status).toBe(200);
    expect((await both.nextRequest()).body.toString('latin1')).toBe(granted);
  });

  test('not one of them before the last is judged', async () => {
    const client = await connect(both.daemon.port);
    const body = granted.replace('gpt-5', 'o1');
    await client.send(both.uploadHead(`Content-Length: ${body.length}`) + body.slice(0, -1));
    // A round trip on another connection: what came before it has been read.
    await post(both, '{"model":"gpt-5"}');
    expect(sent()).toBe(1);
    await client.send(body.slice(-1));
    expect((await client.response()).status).toBe(400);
    expect(sent()).toBe(1);
  });

  test.each([
    ['in chunks of one byte', chunked(...granted.slice(0, 60).split(''), latin1(granted.slice(60)))],
    ['in one chunk', chunked(latin1(granted))],
  ])('a chunked body %s goes up as what it says', async (_, body) => {
    const client = await connect(both.daemon.port);
    await client.send(Buffer.concat([Buffer.from(both.uploadHead('Content-Type: application/json\r\nTransfer-Encoding: chunked'), 'latin1'), body]));
    expect((await client.response()).status).toBe(200);
    const request = await both.nextRequest();
    expect(request.body.toString('latin1')).toBe(granted);
    expect(request.values('content-length')).toEqual([String(granted.length)]);
    expect(request.values('transfer-encoding')).toEqual([]);
  });

  test('a refusal names the rule and the place, and leaves the connection usable', async () => {
    const client = await connect(both.daemon.port);
    await client.send(both.rawRequest({ headers: [json], body: '{"model":"o1"}' }));
    const refused = await client.response();
    expect(refused.status).toBe(400);
    expect(envelopeOf(refused)).toMatchObject({ code: 'policy_denied', message: 'The policy (models) does not allow the model "o1", at /model.' });
    await client.send(both.rawRequest({ headers: [json], body: '{"model":"gpt-5"}' }));
    expect((await client.response()).status).toBe(200);
    expect(sent()).toBe(1);
    expect(both.daemon.stderr).toContain(`refused (policy_denied): "POST /v1/responses (models)"`);
  });

  test.each([
    ['is not JSON', 400, 'invalid_body', '{"model":"gpt-5"', [json]],
    ['is empty', 400, 'invalid_body', '', [json]],
    ['names something twice', 400, 'invalid_body', '{"model":"gpt-5","model":"gpt-5"}', [json]],
    ['is compressed', 400, 'unsupported_encoding', '{"model":"gpt-5"}', [json, ['Content-Encoding', 'gzip']]],
    ['is compressed, in other words', 400, 'unsupported_encoding', '{"model":"gpt-5"}', [json, ['content_encoding', 'gzip']]],
    ['is of another type', 400, 'unsupported_encoding', '{"model":"gpt-5"}', [['Content-Type', 'text/plain']]],
    ['says twice of what type it is', 400, 'unsupported_encoding', '{"model":"gpt-5"}', [json, json]],
    ['is too large', 400, 'body_too_large', granted + ' '.repeat(200), [json]],
  ] as const)('a body that %s: %i %s', async (_, status, code, body, headers) => {
    const refused = await post(both, body, headers);
    expect(refused.status).toBe(status);
    expect(envelopeOf(refused).code).toBe(code);
    expect(sent()).toBe(0);
  });

  test('a chunked body that grows too large is refused as soon as it has', async () => {
    const client = await connect(both.daemon.port);
    await client.send(`${both.uploadHead('Transfer-Encoding: chunked')}${(100_001).toString(16)}\r\n${'x'.repeat(100_001)}\r\n`);
    const refused = await client.response();
    expect(refused.status).toBe(400);
    expect(envelopeOf(refused).code).toBe('body_too_large');
    expect(sent()).toBe(0);
  });

  test('what its head gives away is refused before the client sends the body it asks about', async () => {
    const client = await connect(both.daemon.port);
    await client.send(both.uploadHead('Expect: 100-continue\r\nContent-Length: 100001'));
    const refused = await client.response();
    expect(refused.status).toBe(400);
    expect(envelopeOf(refused).code).toBe('body_too_large');
  });

  test('Expect: 100-continue is answered for the others', async () => {
    const client = await connect(both.daemon.port);
    await client.send(both.uploadHead('Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 17'));
    await client.waitFor('HTTP/1.1 100 Continue\r\n\r\n');
    await client.send('{"model":"gpt-5"}');
    await client.waitFor('HTTP/1.1 200');
  });
});

/** What a rule makes of a request's fields, by the names that its endpoint has for them. */
const fields: ReadonlyArray<{ endpoint: Endpoint; granted: object; denied: ReadonlyArray<readonly [rule: string, place: string, fields: object]> }> = [
  {
    endpoint: responses,
    granted: { max_output_tokens: 100, tools: [{ type: 'function', name: 'f' }], input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'data:image/png;base64,AA==' }] }] },
    denied: [
      ['models', '/model', { model: 'o1' }],
      ['tools', '/tools/0/type', { tools: [{ type: 'mcp', server_url: 'https://x' }] }],
      ['remote_urls', '/input/0/content/0/image_url', { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'https://x' }] }] }],
      ['stored_state', '/store', { store: true }],
      ['max_output_tokens', '/max_output_tokens', { max_output_tokens: 101 }],
      ['max_output_tokens', '/max_output_tokens', { max_output_tokens: undefined, max_completion_tokens: 100 }],
      ['stream_only', '/stream', { stream: false }],
    ],
  },
  {
    endpoint: chatCompletions,
    granted: {
      store: false, max_completion_tokens: 100, tools: [{ type: 'function', function: { name: 'f' } }],
      messages: [{ role: 'user', content: [{ type: 'text', text: 'Say hello' }, { type: 'image_url', image_url: { url: 'data:image/png;base64,AA==', detail: 'low' } }] }],
    },
    denied: [
      ['models', '/model', { model: 'gpt-4o-search-preview' }],
      ['tools', '/tools/0/type', { tools: [{ type: 'custom', custom: { name: 'c' } }] }],
      ['tools', '/web_search_options', { web_search_options: {} }],
      ['remote_urls', '/messages/0/content/0/image_url/url', { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://x' } }] }] }],
      ['stored_state', '/store', { store: true }],
      ['stored_state', '/store', { store: undefined }],
      ['stored_state', '/messages/0/content/0/file/file_id', { messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: 'file-1' } }] }] }],
      ['max_output_tokens', '/max_completion_tokens', { max_completion_tokens: 101 }],
      ['max_output_tokens', '/max_tokens', { max_tokens: 101 }],
      ['max_output_tokens', '/max_completion_tokens', { max_completion_tokens: undefined, max_output_tokens: 100 }],
      ['stream_only', '/stream', { stream: false }],
    ],
  },
];

test.for(fields)('a policy knows the fields of $endpoint.name', async ({ endpoint, granted, denied }) => {
  const policy = { models: ['gpt-5*'], tools: ['function'], remote_urls: false, stored_state: false, max_output_tokens: 100, stream_only: true };
  const both = await startAt(endpoint, policy);
  const request = { ...endpoint.asking('Say hello'), ...granted };
  for (const [rule, place, more] of denied) {
    const refused = await post(both, JSON.stringify({ ...request, ...more }));
    expect(refused.status, `${rule} ${place}`).toBe(400);
    const { code, message } = envelopeOf(refused);
    expect([code, message]).toEqual(['policy_denied', expect.stringContaining(`(${rule})`)]);
    expect(message).toContain(` at ${place}.`);
  }
  expect(both.upstream.requests).toHaveLength(0);
  expect((await post(both, JSON.stringify(request))).status).toBe(200);
  expect((await both.nextRequest()).body.toString()).toBe(JSON.stringify(request));
});

describe('a policy about fields, where requests go to another API than the one that is served,', () => {
  const chat = ['--endpoint', chatCompletions.path];
  test.for<[string, readonly string[], string]>([
    ['chat', chat, 'https://gateway.example/v1/responses'],
    ['the Responses API', [], 'https://RESOURCE.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21'],
  ])('%s, is refused at start', async ([, args, url]) => {
    const exit = await runToExit({ args: [...args, '--upstream-url', url, '--policy', policyFile({ models: ['*'] })] });
    expect(refusalOf(exit, 1)).toContain(new URL(url).pathname);
  });

  test('is not, where the upstream has names of its own, or no rule is about fields', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}'), path: '/llm/v2?to=/v1/responses' });
    await startDaemon({ args: [...upstream.args, ...chat, '--policy', policyFile({ models: ['*'] })] });
    await startDaemon({ args: ['--policy', policyFile({ limits: { concurrent: 1 } }), '--upstream-url', 'https://gateway.example/v1/chat/completions'] });
  });
});

describe('at another endpoint, such as /v1/embeddings', () => {
  const embeddings = { ...responses, name: '/v1/embeddings', path: '/v1/embeddings', args: () => ['--endpoint', '/v1/embeddings'] };

  test('a rule about fields is refused at start, because nothing would apply it', async () => {
    const exit = await runToExit({ args: [...embeddings.args(), '--policy', policyFile({ limits: { concurrent: 1 }, models: ['*'] })] });
    expect(refusalOf(exit, 1)).toMatch('/models does not apply to /v1/embeddings');
  });

  test('limits and max_body_bytes hold, and the audit log reads its usage', async () => {
    const log = join(scratchFolder(), 'audit.log');
    const both = await startAt(embeddings, { max_body_bytes: 100, limits: { tokens_total: 8 } }, '--audit-log', log);
    both.upstream.answerWith(answer(200, '{"object":"list","data":[{"embedding":[0.1,-0.2]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}'));
    expect((await post(both, 'x'.repeat(101))).status).toBe(400);
    expect((await post(both, '{"model":"text-embedding-3-small","input":["a","b"]}')).status).toBe(200);
    expect((await post(both, '{"model":"text-embedding-3-small","input":["a","b"]}')).status).toBe(400);
    expect(linesOf(log).filter(({ kind }) => kind === 'request')).toMatchObject([
      { target: '/v1/embeddings', rule: 'max_body_bytes' },
      { target: '/v1/embeddings', model: 'text-embedding-3-small', ended: 'complete', usage: { input: 8, total: 8 } },
      { target: '/v1/embeddings', rule: 'tokens_total' },
    ]);
  });
});

describe('limits', () => {
  test('a client that leaves is charged an estimate; one that was never served, and an answer that is an error, are not', async () => {
    const both = await startWith({ limits: { tokens_total: 1_000 } });
    both.upstream.answerWith(answer(500));
    expect((await post(both, 'x'.repeat(40_000))).status).toBe(500);
    both.upstream.answerWith(() => {});
    both.startOver();
    const { client } = await asking(both, { body: 'x'.repeat(4_000) });
    client.close();
    both.upstream.answerWith(answer(200, '{"usage":{"total_tokens":1}}'));
    await expect.poll(async () => (await post(both, '{}')).status).toBe(400);
    expect(both.upstream.requests.length).toBeLessThanOrEqual(3 + 1);
  });

  test('a chat stream without include_usage is charged an estimate', async () => {
    const both = await startAt(chatCompletions, { limits: { tokens_total: 1 } });
    both.upstream.answerWith(Buffer.concat([Buffer.from(streamHead()), chunked('data: {"choices":[]}\n\n', 'data: [DONE]\n\n')]));
    expect((await post(both, '{}')).status).toBe(200);
    expect((await post(both, '{}')).status).toBe(400);
  });
});

test('the audit log tells of refusals, and of the model that the policy read', async () => {
  const log = join(scratchFolder(), 'audit.log');
  const both = await startWith({ models: ['gpt-*'] }, '--audit-log', log);
  await post(both, '{"model":"gpt-5","stream":true}');
  const refused = await post(both, '{"model":"o1"}');
  const records = linesOf(log).filter(({ kind }) => kind === 'request');
  expect(records).toMatchObject([
    { decision: 'allowed', model: 'gpt-5', stream: true, status: 200, bytes_up: 31 },
    { decision: 'refused', rule: 'models', model: 'o1', status: 400, ended: 'refused', id: refused.values('x-audit-id')[0], bytes_up: 0 },
  ]);
});

test.each([['a policy that is wrong', () => policyFile('{"modles":["x"]}'), /the policy has an unknown key "modles"/], ['one that is not there', () => '/nonexistent/policy.json', /cannot read --policy \/nonexistent\/policy\.json: no such file or directory/]])('%s ends the start', async (_, file, message) => {
  expect(refusalOf(await runToExit({ args: ['--policy', file()] }), 1)).toMatch(message);
});
