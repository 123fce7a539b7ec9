import { describe, expect, test } from 'vitest';
import { judgeBody } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';

const url = 'https://example.com/?secret';

/** Where the policy refuses a request, by `remote_urls`. */
function refusedAt(endpoint: string, fields: object, policy: object = {}): string | undefined {
  const { refusals: [refusal] } = judgeBody(parsePolicy(JSON.stringify({ remote_urls: false, ...policy }), endpoint), Buffer.from(JSON.stringify({ model: 'm', ...fields })));
  if (refusal !== undefined) expect(refusal).toMatchObject({ status: 400, rule: 'remote_urls' });
  return refusal && /at (\S+)\.$/.exec(refusal.message)?.[1];
}

describe('what calls itself a citation is one only where the API has citations', () => {
  const responses = (fields: object): string | undefined => refusedAt('/v1/responses', fields);
  const chat = (fields: object): string | undefined => refusedAt('/v1/chat/completions', fields);
  const content = (part: object, role = 'user'): object[] => [{ role, content: [part] }];

  test.each([
    [{ type: 'input_image', image_url: { type: 'url_citation', url } }],
    [{ type: 'input_image', image_url: { type: 'web_search_call', url } }],
    [{ type: 'input_image', image_url: { type: 'url_citation', url_citation: { url } } }],
    [{ type: 'input_file', file_url: { type: 'url_citation', url } }],
    [{ type: 'input_file', file_url: [{ type: 'url_citation', url }] }],
    [{ type: 'url_citation', url }],
    [{ type: 'url_citation', url_citation: { url } }],
    [{ type: 'web_search_call', action: { url } }],
    [{ type: 'web_search_call', action: { sources: [{ url }] } }],
    [{ type: 'input_image', annotations: [{ type: 'url_citation', url }] }],
    [{ type: 'output_text', annotations: [{ type: 'input_image', image_url: url }] }],
    [{ type: 'output_text', annotations: [{ type: 'input_image', url }] }],
    [{ type: 'output_text', annotations: [{ type: 'url_citation', image_url: url }] }],
    [{ type: 'output_text', annotations: [[{ type: 'url_citation', image_url: url }]] }],
    [{ type: 'output_text', annotations: [{ type: 'url_citation', url_citation: { image_url: { url } } }] }],
    [{ type: 'output_text', citations: [{ type: 'url_citation', url }] }],
  ])('%j', (part) => {
    expect(responses({ input: content(part) })).toMatch(/url$/);
    expect(responses({ input: content(part, 'assistant') })).toMatch(/url$/);
    expect(responses({ input: [{ type: 'function_call_output', call_id: 'c', output: [part] }] })).toMatch(/url$/);
    expect(chat({ messages: content(part) })).toMatch(/url$/);
  });

  test.each([
    [{ type: 'web_search_call', url }],
    [{ type: 'web_search_call', action: { image_url: url } }],
    [{ type: 'web_search_call', action: { sources: [{ image_url: url }] } }],
    [{ type: 'web_search_call', action: { sources: [{ more: { url } }] } }],
    [{ type: 'web_search_call', results: [{ url }] }],
    [{ type: 'web_search_call', content: [{ type: 'input_image', action: { url } }] }],
    [{ type: 'message', action: { url } }],
    [{ Type: 'web_search_call', action: { url } }],
    [{ role: 'assistant', image_url: { role: 'assistant', type: 'url_citation', url } }],
  ])('the item %j', (item) => {
    expect(responses({ input: [item] })).toBeDefined();
  });

  test('not in a chat message, nor in a tool', () => {
    expect(chat({ messages: [{ role: 'user', type: 'web_search_call', action: { url } }] })).toBe('/messages/0/action/url');
    expect(responses({ tools: [{ type: 'image_generation', input_image_mask: { type: 'url_citation', url } }] })).toBe('/tools/0/input_image_mask/url');
    expect(responses({ tools: [{ type: 'custom', name: 'c', annotations: [{ type: 'url_citation', url }] }] })).toBe('/tools/0/annotations/0/url');
  });

  test.each([
    [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: '', annotations: [{ type: 'url_citation', url, title: 't', start_index: 0, end_index: 1 }] }] }],
    [{ type: 'web_search_call', id: 'ws_1', status: 'completed', action: { type: 'search', query: 'x', sources: [{ type: 'url', url }] } }],
    [{ type: 'web_search_call', id: 'ws_1', status: 'completed', action: { type: 'find_in_page', pattern: 'x', url } }],
  ])('what the API itself cites passes: %j', (item) => {
    expect(responses({ input: [item] })).toBeUndefined();
  });

  test('also in chat', () => {
    expect(chat({ messages: [{ role: 'assistant', content: 'x', annotations: [{ type: 'url_citation', url_citation: { url, title: 't' } }] }] })).toBeUndefined();
  });
});

describe('an address however it is written, wherever an item can hold one', () => {
  const inImage = (image: object): string | undefined => refusedAt('/v1/responses', { input: [{ role: 'user', content: [{ type: 'input_image', ...image }] }] });
  const host = 'example.com/x';

  test.each([
    ...[`https://${host}`, `HTTPS://${host}`, `//${host}`, `https:${host}`, `https:\\\\${host}`, `\\\\${host}`, `/\\${host}`, `gs://bucket/x`, `wss:${host}`],
    ...[`${' '.repeat(64)}https://${host}`, `${' '.repeat(100_000)}//${host}`, `\u00a0https://${host}`, `\u0085\u2003\ufeff//${host}`, `\u001f//${host}`],
    ...[`ht\ntps://${host}`, `h${'\t'.repeat(100)}ttps:${host}`, `/\n/${host}`],
  ])('%j', (address) => {
    for (const image of [{ images: [address] }, { images: [[address]] }, { src: address }, { image_url: { href: address } }, { image_url: { more: [{ text: address }] } }, { result: address }, { file_data: address }, { text: address }, { content: [address] }]) {
      expect(inImage(image), JSON.stringify(image).slice(0, 80)).toMatch(/^\/input\/0\/content\/0\//);
    }
    expect(refusedAt('/v1/responses', { input: [{ type: 'image_generation_call', id: 'ig_1', status: 'completed', result: address }] })).toBe('/input/0/result');
    expect(refusedAt('/v1/responses', { input: [{ type: 'image_generation_call', id: 'ig_1', result: 'AA==', svg_usage: { image_url: address } }] })).toBe('/input/0/svg_usage/image_url');
    expect(refusedAt('/v1/responses', { input: [{ type: 'computer_call_output', call_id: 'c', output: { type: 'computer_screenshot', screenshot: address } }] })).toBe('/input/0/output/screenshot');
    expect(refusedAt('/v1/chat/completions', { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { link: address } }] }] })).toBe('/messages/0/content/0/image_url/link');
    expect(refusedAt('/v1/responses', { tools: [{ type: 'function', name: 'f', endpoint: address }] })).toBe('/tools/0/endpoint');
    expect(refusedAt('/v1/responses', { rag: address }, { fields: ['rag'] })).toBe('/rag');
    expect(refusedAt('/v1/chat/completions', { messages: [], audio: address })).toBe('/audio');
  });

  test('words may begin with one, and so may what brings its data along', () => {
    const said = `//${host} is what https://${host} was`;
    const items = [
      { role: 'user', content: said }, { role: 'user', content: [{ type: 'input_text', text: said }] },
      { type: 'function_call', call_id: 'c', name: 'f', arguments: said }, { type: 'function_call_output', call_id: 'c', output: said },
      { type: 'custom_tool_call', call_id: 'c', name: 'f', input: said }, { type: 'reasoning', summary: [{ type: 'summary_text', text: said }] },
      { type: 'local_shell_call', call_id: 'c', action: { type: 'exec', command: [said], env: { HOME: said } } }, { type: 'program_output', call_id: 'c', result: said },
      { type: 'web_search_call', action: { type: 'search', query: said, queries: [said] } }, { type: 'code_interpreter_call', code: said, outputs: [{ type: 'logs', logs: said }] },
    ];
    expect(refusedAt('/v1/responses', { input: items, instructions: said, tools: [{ type: 'custom', name: 'c', description: said, format: { type: 'grammar', definition: said } }] })).toBeUndefined();
    expect(refusedAt('/v1/responses', { input: said, prompt_cache_key: said, user: said })).toBeUndefined();
    expect(refusedAt('/v1/chat/completions', { messages: [{ role: 'user', content: said }], stop: [said] })).toBeUndefined();
    for (const image of [{ image_url: 'data:image/png;base64,AA==' }, { image_url: { href: 'data:,x' } }, { images: ['data:,x', 'aHR0cHM6Ly8='] }, { detail: 'note: low' }]) expect(inImage(image)).toBeUndefined();
  });

  test('an item of a type that the API does not have is refused, whatever is in it', () => {
    expect(refusedAt('/v1/responses', { input: [{ type: 'fetch', what: 'x' }] })).toBe('/input/0/type');
    expect(refusedAt('/v1/responses', { input: [[{ type: 'fetch' }]] })).toBe('/input/0/0/type');
    const { refusals } = judgeBody(parsePolicy('{"stored_state":false}', '/v1/responses'), Buffer.from('{"store":false,"input":[{"type":"stored_thing","key":"k"}]}'));
    expect(refusals).toMatchObject([{ rule: 'stored_state' }]);
  });
});

describe('addresses under names of their own', () => {
  test('Azure’s data sources', () => {
    const data_sources = [{ type: 'azure_search', parameters: { endpoint: url, index_name: 'i' } }];
    for (const endpoint of ['/v1/chat/completions', '/v1/responses']) {
      expect(refusedAt(endpoint, { data_sources })).toBe('/data_sources');
      expect(refusedAt(endpoint, { data_sources }, { tools: ['function'] })).toBe('/data_sources');
      expect(refusedAt(endpoint, { dataSources: data_sources }, { fields: ['dataSources'] })).toBe('/dataSources');
    }
  });

  test.each([
    [{ endpoint: url }, '/rag/endpoint'],
    [{ parameters: { endpoint: url } }, '/rag/parameters/endpoint'],
    [{ type: 'function', parameters: { endpoint: url } }, '/rag/parameters/endpoint'],
    [{ hosts: ['x', ' //example.com'] }, '/rag/hosts/1'],
    [{ a: [[{ b: 'GS://bucket' }]] }, '/rag/a/0/0/b'],
    [{ headers: { Referer: url } }, '/rag/headers/Referer'],
    [{ note: 'see https://example.com', level: 'fast: yes' }, undefined],
  ])('a field that the policy grants: %j', (rag, place) => {
    expect(refusedAt('/v1/responses', { rag }, { fields: ['rag'] })).toBe(place);
  });

  test('the whole of such a field', () => {
    expect(refusedAt('/v1/responses', { rag: url }, { fields: ['rag'] })).toBe('/rag');
    expect(refusedAt('/v1/responses', { rag: ['x', url] }, { fields: ['rag'] })).toBe('/rag/1');
  });

  test.each(['parameters', 'input_schema', 'output_schema', 'schema', 'arguments', 'headers', 'env', 'metadata', 'client_metadata', 'logit_bias'])('in %s of what has none', (name) => {
    const part = { type: 'input_image', [name]: { image_url: url } };
    expect(refusedAt('/v1/responses', { input: [{ role: 'user', content: [part] }] })).toBe(`/input/0/content/0/${name}/image_url`);
    expect(refusedAt('/v1/chat/completions', { messages: [{ role: 'user', content: [part] }] })).toBe(`/messages/0/content/0/${name}/image_url`);
  });

  test('schemas and arguments may have anything in them', () => {
    expect(refusedAt('/v1/responses', { input: [{ type: 'function_call', call_id: 'c', name: 'f', arguments: { image_url: url } }] })).toBeUndefined();
    expect(refusedAt('/v1/responses', { text: { format: { type: 'json_schema', name: 'n', schema: { $ref: url, url } } } })).toBeUndefined();
    expect(refusedAt('/v1/chat/completions', { response_format: { type: 'json_schema', json_schema: { name: 'n', schema: { url } } } })).toBeUndefined();
    expect(refusedAt('/v1/chat/completions', { tools: [{ type: 'function', function: { name: 'f', parameters: { url } } }], functions: [{ name: 'f', parameters: { url } }] })).toBeUndefined();
    expect(refusedAt('/v1/responses', { tools: [{ type: 'function', name: 'f', parameters: { image_url: { default: url } } }] })).toBeUndefined();
  });
});

test('a container that exists already may have a network', () => {
  const tool = (more: object): string | undefined => refusedAt('/v1/responses', { tools: [more] });
  expect(tool({ type: 'code_interpreter', container: 'cntr_1' })).toBe('/tools/0/container');
  expect(tool({ type: 'shell', environment: { type: 'container_reference', container_id: 'cntr_1' } })).toBe('/tools/0/environment/container_id');
  expect(tool({ type: 'shell', environment: { type: 'container_reference', containerId: 'cntr_1' } })).toBe('/tools/0/environment/containerId');
  expect(tool({ type: 'code_interpreter', container: { type: 'auto' } })).toBeUndefined();
  expect(tool({ type: 'shell', environment: { type: 'local' } })).toBeUndefined();
  // What a container did in an earlier turn is told with its id.
  expect(refusedAt('/v1/responses', { input: [{ type: 'code_interpreter_call', id: 'ci_1', container_id: 'cntr_1', code: 'x', outputs: [] }] })).toBeUndefined();
});

test('an approval for a call of an MCP server is one', () => {
  const approval = { input: [{ type: 'mcp_approval_response', approval_request_id: 'mcpr_1', approve: true }] };
  expect(refusedAt('/v1/responses', approval)).toBe('/input/0/type');
  expect(judgeBody(parsePolicy('{"tools":["mcp"]}', '/v1/responses'), Buffer.from(JSON.stringify(approval))).refusals[0]).toBeUndefined();
  expect(judgeBody(parsePolicy('{"tools":["function"]}', '/v1/responses'), Buffer.from(JSON.stringify(approval))).refusals[0]?.rule).toBe('tools');
});

test('a search stays offline, also for readers of other names', () => {
  const search = (more: object): string | undefined => refusedAt('/v1/responses', { tools: [{ type: 'web_search', external_web_access: false, ...more }] });
  expect(search({})).toBeUndefined();
  expect(search({ externalWebAccess: true })).toBe('/tools/0/externalWebAccess');
});
