import { describe, expect, test } from 'vitest';
import { type BodyVerdict, judgeBody, judgeHeaders } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';

type Fields = Record<string, unknown>;
type Row = readonly [policy: Fields, body: Fields, refusedAt: string | undefined];

function verdictOn(endpoint: string, policy: Fields, body: Fields): BodyVerdict {
  return judgeBody(parsePolicy(JSON.stringify(policy), endpoint), Buffer.from(JSON.stringify(body)));
}

function table(endpoint: string, rows: readonly Row[]): void {
  test.each(rows)('%j %j: %s', (policy, body, refusedAt) => {
    const { refusals: [refusal] } = verdictOn(endpoint, policy, body);
    if (refusedAt === undefined) return expect(refusal).toBeUndefined();
    // A rule is named, unless the row has several.
    const rules = Object.keys(policy);
    expect(refusal).toMatchObject({ status: 400, code: 'policy_denied', rule: rules.length === 1 ? rules[0] : expect.any(String) as unknown });
    expect(refusal?.message).toContain(`at ${refusedAt}.`);
  });
}

const input = (...items: unknown[]): Fields => ({ input: items });
const message = (...content: unknown[]): Fields => input({ type: 'message', role: 'user', content });
const tools = (...all: unknown[]): Fields => ({ tools: all });
const fn = { type: 'function', name: 'f', parameters: {} };

describe('/v1/responses', () => {
  const responses = (rows: readonly Row[]): void => table('/v1/responses', rows);

  describe('models', () => {
    const models = { models: ['gpt-5*', 'o3', '*-mini', 'a*b*c'] };
    responses([
      [models, { model: 'gpt-5' }, undefined],
      [models, { model: 'gpt-5.2-codex' }, undefined],
      [models, { model: 'o3' }, undefined],
      [models, { model: 'any-mini' }, undefined],
      [models, { model: 'abc' }, undefined],
      [models, { model: 'a1b2c' }, undefined],
      [models, { model: 'aXbXbXc' }, undefined],
      [models, { model: 'ac' }, '/model'],
      [models, { model: 'abcd' }, '/model'],
      [models, { model: 'acb' }, '/model'],
      [models, { model: 'o3-pro' }, '/model'],
      [models, { model: 'xo3' }, '/model'],
      [models, { model: 'gpt-4' }, '/model'],
      [{ models: ['ab*ba'] }, { model: 'aba' }, '/model'],
      [{ models: ['*'] }, { model: 'anything' }, undefined],
      [{ models: ['gpt-5.1'] }, { model: 'gpt-5x1' }, '/model'],
      [models, {}, '/model'],
      [models, { model: null }, '/model'],
      [models, { model: 5 }, '/model'],
      [models, { model: ['o3'] }, '/model'],
      [models, { model: '' }, '/model'],
      // Other models that a request names.
      [models, { model: 'o3', tools: [{ type: 'image_generation', model: 'gpt-image-1' }] }, '/tools/0/model'],
      [models, { model: 'o3', tools: [{ type: 'image_generation', model: 'gpt-5-image', output_format: 'svg' }] }, '/tools/0/svg/model'],
      [models, { model: 'o3', tools: [{ type: 'image_generation', model: 'gpt-5-image', output_format: 'svg', svg: { reasoning: {} } }] }, '/tools/0/svg/model'],
      [models, { model: 'o3', tools: [{ type: 'image_generation', model: 'gpt-5-image', output_format: 'svg', svg: { model: 'o1' } }] }, '/tools/0/svg/model'],
      [models, { model: 'o3', tools: [{ type: 'image_generation', model: 'gpt-5-image', output_format: 'svg', svg: { model: 'o3' } }] }, undefined],
      [models, { model: 'o3', ...input({ type: 'image_generation_call', id: 'ig_1', status: 'completed', result: 'AA==', output_format: 'svg', svg_usage: { model: 'o1', total_tokens: 1 } }) }, undefined],
      [models, { model: 'o3', ...input({ type: 'message', svg_usage: { model: 'o1' } }) }, '/input/0/svg_usage/model'],
      [models, { model: 'o3', tools: [{ type: 'image_generation', model: 'gpt-5-image' }] }, undefined],
      [models, { model: 'o3', models: ['o3', 'gpt-4'] }, '/models'],
      [{ ...models, fields: ['models'] }, { model: 'o3', models: ['o3', 'gpt-5'] }, undefined],
      [models, { model: 'o3', metadata: { model: 'gpt-4' } }, undefined],
    ]);
  });

  describe('tools', () => {
    const allowed = { tools: ['function', 'namespace', 'tool_search'] };
    responses([
      [allowed, {}, undefined],
      [allowed, { tools: null, tool_choice: null }, undefined],
      [allowed, tools(), undefined],
      [allowed, tools(fn, { type: 'tool_search' }), undefined],
      [allowed, tools(fn, { type: 'web_search' }), '/tools/1/type'],
      [allowed, tools({ type: 'custom', name: 'c' }), '/tools/0/type'],
      [allowed, tools({ type: 'a_type_of_tomorrow' }), '/tools/0/type'],
      [allowed, tools({ name: 'f' }), '/tools/0/type'],
      [allowed, tools({ type: null }), '/tools/0/type'],
      [allowed, tools({ type: ['function'] }), '/tools/0/type'],
      [allowed, tools('function'), '/tools/0'],
      [allowed, tools([fn]), '/tools/0'],
      [allowed, tools(null), '/tools/0'],
      [allowed, { tools: fn }, '/tools'],
      [allowed, { tools: 'function' }, '/tools'],
      [{ tools: [] }, tools(fn), '/tools/0/type'],
      [{ tools: [] }, { tool_choice: 'none' }, undefined],
      // Inside of other tools.
      [allowed, tools({ type: 'namespace', name: 'n', tools: [fn] }), undefined],
      [allowed, tools({ type: 'namespace', name: 'n', tools: [fn, { type: 'mcp' }] }), '/tools/0/tools/1/type'],
      [allowed, tools({ type: 'namespace', name: 'n', tools: [{ type: 'namespace', tools: [{ type: 'shell' }] }] }), '/tools/0/tools/0/tools/0/type'],
      // Among the items of input.
      [allowed, input({ type: 'additional_tools', role: 'developer', tools: [{ type: 'namespace', name: 'n', tools: [fn] }] }), undefined],
      [allowed, input({ type: 'additional_tools', role: 'developer', tools: [fn, { type: 'web_search' }] }), '/input/0/tools/1/type'],
      [allowed, input({ type: 'tool_search_output', tools: [{ type: 'mcp', server_url: 'https://x' }] }), '/input/0/tools/0/type'],
      [allowed, input({ type: 'an_item_of_tomorrow', inside: [{ tools: [{ type: 'mcp' }] }] }), '/input/0/inside/0/tools/0/type'],
      [allowed, input({ type: 'mcp_list_tools', tools: [{ name: 't', input_schema: {} }] }), '/input/0/tools'],
      [{ tools: ['mcp'] }, input({ type: 'mcp_list_tools', tools: [{ name: 't', input_schema: {} }] }), undefined],
      [allowed, { instructions: [{ tools: [{ type: 'mcp' }] }] }, '/instructions/0/tools/0/type'],
      // tool_choice.
      [allowed, { tool_choice: 'auto' }, undefined],
      [allowed, { tool_choice: 'required' }, undefined],
      [allowed, { tool_choice: 'web_search' }, '/tool_choice'],
      [allowed, { prompt: { id: 'pmpt_1' } }, '/prompt'],
      [allowed, { Prompt: { id: 'pmpt_1' } }, '/Prompt'],
      [allowed, { tool_choice: ['auto'] }, '/tool_choice'],
      [allowed, { tool_choice: { type: 'function', name: 'f' } }, undefined],
      [allowed, { tool_choice: { type: 'mcp', server_label: 'l' } }, '/tool_choice/type'],
      [allowed, { tool_choice: { name: 'f' } }, '/tool_choice/type'],
      [allowed, { tool_choice: { type: 'allowed_tools', mode: 'auto', tools: [{ type: 'function', name: 'f' }] } }, undefined],
      [allowed, { tool_choice: { type: 'allowed_tools', mode: 'auto', tools: [{ type: 'image_generation' }] } }, '/tool_choice/tools/0/type'],
      // What is a schema is none of ours.
      [allowed, tools({ ...fn, parameters: { properties: { tools: { type: 'array' }, type: { type: ['string', 'null'] } } } }), undefined],
      [allowed, { text: { format: { type: 'json_schema', schema: { properties: { tools: {} } } } } }, undefined],
      [allowed, input({ type: 'tool_search_call', arguments: { tools: 'x' } }), undefined],
      [allowed, { metadata: { tools: 'x', type: 5 } }, undefined],
    ]);
  });

  describe('remote_urls', () => {
    const policy = { remote_urls: false };
    const png = 'data:image/png;base64,iVBORw0KGgo=';
    responses([
      [policy, { input: 'see https://example.com/' }, undefined],
      [policy, message({ type: 'input_text', text: 'https://example.com/' }), undefined],
      [policy, message({ type: 'input_image', image_url: png }), undefined],
      [policy, message({ type: 'input_image', image_url: `${png}${'A'.repeat(5_000)}` }), undefined],
      [policy, message({ type: 'input_image', image_url: 'DATA:image/png;base64,AA==' }), undefined],
      [policy, message({ type: 'input_image', image_url: null, file_id: 'file-1' }), undefined],
      [policy, message({ type: 'input_file', file_data: `data:application/pdf;base64,${'A'.repeat(5_000)}` }), undefined],
      [policy, message({ type: 'input_file', file_data: '//uQxAAA+/=' }), undefined],
      [policy, message({ type: 'input_image', image_url: 'https://example.com/a.png' }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: `https://example.com/${'a'.repeat(5_000)}` }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: 'HTTP://EXAMPLE.COM' }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: '//example.com/a' }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: 'ftp://example.com' }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: ' data:image/png,' }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: '' }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: 5 }), '/input/0/content/0/image_url'],
      [policy, message({ type: 'input_image', image_url: { url: 'https://example.com' } }), '/input/0/content/0/image_url/url'],
      [policy, message({ type: 'input_image', image_url: [png, 'https://example.com'] }), '/input/0/content/0/image_url/1'],
      [policy, message({ type: 'input_image', image_url: [[png, '//x']] }), '/input/0/content/0/image_url/0/1'],
      [policy, message({ type: 'input_image', imageUrl: 'https://example.com' }), '/input/0/content/0/imageUrl'],
      [policy, message({ type: 'input_video', video_url: 'https://example.com' }), '/input/0/content/0/video_url'],
      [policy, message({ type: 'input_file', file_url: 'https://example.com' }), '/input/0/content/0/file_url'],
      [policy, message({ type: 'input_file', file_uri: 'gs://bucket/x' }), '/input/0/content/0/file_uri'],
      [policy, message({ type: 'input_file', file_data: 'https://example.com' }), '/input/0/content/0/file_data'],
      [policy, message({ type: 'input_file', file_data: '\n https://example.com' }), '/input/0/content/0/file_data'],
      [policy, message({ type: 'input_audio', input_audio: { data: 'https://example.com' } }), '/input/0/content/0/input_audio/data'],
      [policy, input({ type: 'function_call_output', output: [{ type: 'input_image', image_url: 'https://x' }] }), '/input/0/output/0/image_url'],
      [policy, input({ type: 'function_call_output', output: '{"image_url":"https://x"}' }), undefined],
      [policy, input({ type: 'computer_call_output', output: { type: 'computer_screenshot', image_url: 'https://x' } }), '/input/0/output/image_url'],
      [policy, input([[{ image_url: 'https://x' }]]), '/input/0/0/0/image_url'],
      [policy, { prompt: { id: 'p', variables: { parameters: { type: 'input_image', image_url: 'https://x' } } } }, '/prompt'],
      [policy, { prompt: { id: 'p' } }, '/prompt'], // a stored prompt can search the web, or call an MCP server
      [policy, { prompt: null }, undefined],
      [policy, { future: { source_url: 'https://x' } }, '/future/source_url'],
      // Tools.
      [policy, tools({ type: 'mcp', server_url: 'https://x' }), '/tools/0/type'],
      [policy, tools({ type: 'mcp', connector_id: 'connector_gmail' }), '/tools/0/type'],
      [policy, tools({ type: 'a_type_of_tomorrow' }), '/tools/0/type'],
      [policy, { tools: 'mcp' }, '/tools'],
      [policy, { extra: { connector_id: 'connector_gmail' } }, '/extra/connector_id'],
      [policy, { extra: { tunnel_id: 't' } }, '/extra/tunnel_id'],
      [policy, input({ type: 'additional_tools', tools: [{ type: 'namespace', tools: [{ type: 'mcp' }] }] }), '/input/0/tools/0/tools/0/type'],
      [policy, tools({ type: 'image_generation', input_image_mask: { image_url: 'https://x' } }), '/tools/0/input_image_mask/image_url'],
      [policy, tools({ type: 'code_interpreter', container: { type: 'auto' } }), undefined],
      [policy, tools({ type: 'code_interpreter', container: { type: 'auto', network_policy: { type: 'disabled' } } }), undefined],
      [policy, tools({ type: 'code_interpreter', container: { type: 'auto', network_policy: { type: 'allowlist', allowed_domains: ['x'] } } }), '/tools/0/container/network_policy'],
      [policy, tools({ type: 'shell', environment: { type: 'container_auto', network_policy: {} } }), '/tools/0/environment/network_policy'],
      [policy, tools({ type: 'web_search' }), '/tools/0/type'],
      [policy, tools({ type: 'web_search', external_web_access: true }), '/tools/0/type'],
      [policy, tools({ type: 'web_search', external_web_access: false, filters: { allowed_domains: ['x'] } }), undefined],
      [policy, tools({ type: 'web_search_2025_08_26', external_web_access: false }), undefined],
      [policy, tools({ type: 'web_search_preview', external_web_access: false }), '/tools/0/type'], // it does not ask
      [policy, tools({ type: 'web_search_preview_2025_03_11', external_web_access: false }), '/tools/0/type'],
      [{ ...policy, tools: ['web_search'] }, tools({ type: 'web_search' }), undefined],
      [{ ...policy, tools: ['custom:tomorrow'] }, tools({ type: 'tomorrow' }), undefined],
      // What was cited before, and what a client made up.
      [policy, input({ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: '', annotations: [{ type: 'url_citation', url: 'https://x' }] }] }), undefined],
      [policy, input({ type: 'web_search_call', action: { type: 'open_page', url: 'https://x', sources: [{ type: 'url', url: 'https://y' }] } }), undefined],
      [policy, input({ type: 'web_search_call', image_url: 'https://x' }), '/input/0/image_url'],
      [policy, input({ type: 'message', url: 'https://x' }), '/input/0/url'],
      [policy, tools({ ...fn, parameters: { properties: { file_url: { default: 'https://x' } } } }), undefined],
      [policy, { metadata: { url: 'https://x' } }, undefined],
      [policy, input({ type: 'local_shell_call', action: { type: 'exec', env: { URL: 'https://x' } } }), undefined],
    ]);
  });

  describe('stored_state', () => {
    const policy = { stored_state: false };
    const off = { store: false };
    responses([
      [policy, off, undefined],
      [policy, {}, '/store'],
      [policy, { store: true }, '/store'],
      [policy, { store: null }, '/store'],
      [policy, { store: 'false' }, '/store'],
      [policy, { store: 0 }, '/store'],
      [policy, { ...off, previous_response_id: null, conversation: null, prompt: null }, undefined],
      [policy, { ...off, previous_response_id: 'resp_1' }, '/previous_response_id'],
      [policy, { ...off, previous_response_id: '' }, '/previous_response_id'],
      [policy, { ...off, conversation: 'conv_1' }, '/conversation'],
      [policy, { ...off, conversation: { id: 'conv_1' } }, '/conversation'],
      [policy, { ...off, prompt: { id: 'pmpt_1' } }, '/prompt'],
      [policy, { ...off, prompt_cache_options: { comparison_response_id: 'resp_1' } }, '/prompt_cache_options/comparison_response_id'],
      [policy, { ...off, ...tools({ type: 'file_search', vector_store_ids: ['vs_1'] }) }, '/tools/0/type'],
      [policy, { ...off, ...tools({ type: 'a_type_of_tomorrow' }) }, '/tools/0/type'],
      [policy, { ...off, ...tools({ type: 'code_interpreter', container: 'cntr_1' }) }, '/tools/0/container'],
      [policy, { ...off, ...tools({ type: 'code_interpreter', container: { type: 'auto' } }) }, undefined],
      [policy, { ...off, ...tools({ type: 'code_interpreter', container: { type: 'auto', file_ids: ['file-1'] } }) }, '/tools/0/container/file_ids'],
      [policy, { ...off, ...tools({ type: 'shell', environment: { type: 'container_reference', container_id: 'c' } }) }, '/tools/0/environment/container_id'],
      [policy, { ...off, ...tools({ type: 'shell', environment: { type: 'container_auto', skills: [{ type: 'skill_reference', skill_id: 's' }] } }) }, '/tools/0/environment/skills/0/skill_id'],
      [policy, { ...off, ...message({ type: 'input_image', file_id: 'file-1' }) }, '/input/0/content/0/file_id'],
      [policy, { ...off, ...message({ type: 'input_image', file_id: null, image_url: 'https://x' }) }, undefined],
      [policy, { ...off, extra: { vector_store_ids: [] } }, '/extra/vector_store_ids'],
      // References to items.
      [policy, { ...off, ...input({ type: 'item_reference', id: 'msg_1' }) }, '/input/0'],
      [policy, { ...off, ...input({ role: 'user', content: 'x' }, { id: 'msg_1' }) }, '/input/1'],
      [policy, { ...off, ...input({ type: null, id: 'msg_1' }) }, '/input/0'],
      [policy, { ...off, ...input({ type: 'message', role: 'user', id: 'msg_1', content: null }) }, '/input/0'],
      [policy, { ...off, ...input({ type: 'Item_Reference', id: 'x', more: 1 }) }, '/input/0/type'],
      [policy, { ...off, ...input([{ type: 'item_reference', id: 'x' }]) }, '/input/0/0'],
      [policy, { ...off, ...input([[{ id: 'x' }]]) }, '/input/0/0/0'],
      [policy, { ...off, ...input({ type: 'reasoning', id: 'rs_1', summary: [{ type: 'summary_text', text: 'x' }] }) }, '/input/0'],
      [policy, { ...off, ...input({ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: '', content: [] }) }, '/input/0'],
      [policy, { ...off, ...input({ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'gAAA' }) }, undefined],
      [policy, { ...off, ...input({ type: 'reasoning', summary: [] }) }, undefined],
      [policy, { ...off, ...input({ type: 'image_generation_call', id: 'ig_1', status: 'completed', size: 'x' }) }, '/input/0'],
      [policy, { ...off, ...input({ type: 'image_generation_call', id: 'ig_1', result: 'iVBO' }) }, undefined],
      [policy, { ...off, ...input({ type: 'constructor', id: 'x' }) }, '/input/0'],
      [policy, { ...off, ...input({ type: 'message', role: 'assistant', id: 'msg_1', content: [] }) }, undefined],
      [policy, { ...off, ...input({ type: 'function_call', id: 'fc_1', call_id: 'c', name: 'f', arguments: '{}' }) }, undefined],
      [policy, { ...off, input: 'x', metadata: { file_id: 'x', conversation: 'y' } }, undefined],
    ]);
  });

  describe('background, stream_only', () => {
    responses([
      [{ background: false }, {}, undefined],
      [{ background: false }, { background: false }, undefined],
      [{ background: false }, { background: null }, undefined],
      [{ background: false }, tools({ type: 'image_generation', background: 'opaque' }), undefined],
      [{ background: false }, { background: true }, '/background'],
      [{ background: false }, { background: 'false' }, '/background'],
      [{ background: false }, { background: 0 }, '/background'],
      [{ stream_only: true }, { stream: true }, undefined],
      [{ stream_only: true }, {}, '/stream'],
      [{ stream_only: true }, { stream: false }, '/stream'],
      [{ stream_only: true }, { stream: 'true' }, '/stream'],
      [{ stream_only: true }, { stream: 1 }, '/stream'],
    ]);
  });

  describe('max_output_tokens', () => {
    const policy = { max_output_tokens: 1000 };
    responses([
      [policy, { max_output_tokens: 1 }, undefined],
      [policy, { max_output_tokens: 1000 }, undefined],
      [policy, { max_output_tokens: 1001 }, '/max_output_tokens'],
      [policy, { max_output_tokens: 999.5 }, '/max_output_tokens'],
      [policy, { max_output_tokens: 0 }, '/max_output_tokens'],
      [policy, { max_output_tokens: -5 }, '/max_output_tokens'],
      [policy, { max_output_tokens: '10' }, '/max_output_tokens'],
      [policy, { max_output_tokens: [10] }, '/max_output_tokens'],
      [policy, { max_output_tokens: null }, '/max_output_tokens'],
      [policy, { max_tokens: 10 }, '/max_output_tokens'],
      [policy, {}, '/max_output_tokens'],
    ]);
  });
});

describe('/v1/chat/completions', () => {
  const user = (...content: unknown[]): Fields => ({ messages: [{ role: 'user', content }] });
  const chat = { type: 'function', function: { name: 'f', parameters: { properties: { tools: {} } } } };

  table('/v1/chat/completions', [
    [{ models: ['gpt-5'] }, { model: 'gpt-5' }, undefined],
    [{ models: ['gpt-5'] }, { model: 'gpt-4o-search-preview' }, '/model'],
    [{ tools: ['function'] }, { tools: [chat], tool_choice: { type: 'function', function: { name: 'f' } } }, undefined],
    [{ tools: ['function'] }, { tools: [chat, { type: 'custom', custom: { name: 'c' } }] }, '/tools/1/type'],
    [{ tools: ['function'] }, { tool_choice: { type: 'custom', custom: { name: 'c' } } }, '/tool_choice/type'],
    [{ tools: ['function'] }, { tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [chat] } } }, undefined],
    [{ tools: ['function'] }, { tool_choice: { type: 'allowed_tools', allowed_tools: { tools: [{ type: 'mcp' }] } } }, '/tool_choice/allowed_tools/tools/0/type'],
    [{ tools: ['function'] }, { functions: [{ name: 'f' }], function_call: 'auto' }, undefined],
    [{ tools: [] }, { functions: [{ name: 'f' }] }, '/functions'],
    [{ tools: [] }, { function_call: { name: 'f' } }, '/function_call'],
    [{ tools: [] }, { function_call: 'none' }, undefined],
    [{ tools: ['function'] }, { web_search_options: {} }, '/web_search_options'],
    [{ tools: ['web_search'] }, { web_search_options: {} }, undefined],
    [{ remote_urls: false }, { web_search_options: {} }, '/web_search_options'],
    ...['gpt-4o-search-preview', 'gpt-4o-mini-search-preview-2025-03-11', 'gpt-5-search-api'].flatMap((model): Row[] => [
      [{ tools: ['function'], models: ['gpt-*'] }, { model }, '/model'],
      [{ remote_urls: false }, { model }, '/model'],
      [{ tools: ['web_search'], remote_urls: false }, { model }, undefined],
      [{ stored_state: false }, { model, store: false }, undefined],
    ]),
    [{ remote_urls: false }, { model: 'gpt-5-research' }, undefined],
    [{ remote_urls: false }, user({ type: 'image_url', image_url: { url: 'data:image/png;base64,AA==', detail: 'low' } }), undefined],
    [{ remote_urls: false }, user({ type: 'image_url', image_url: { url: 'https://x' } }), '/messages/0/content/0/image_url/url'],
    [{ remote_urls: false }, user({ type: 'image_url', image_url: 'https://x' }), '/messages/0/content/0/image_url'],
    [{ remote_urls: false }, user({ type: 'file', file: { file_data: 'https://x' } }), '/messages/0/content/0/file/file_data'],
    [{ remote_urls: false }, user({ type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } }), undefined],
    [{ remote_urls: false }, { messages: [{ role: 'assistant', annotations: [{ type: 'url_citation', url_citation: { url: 'https://x' } }] }] }, undefined],
    // What calls itself a citation is one no further than citations go.
    [{ remote_urls: false }, { type: 'url_citation', ...user({ type: 'image_url', image_url: { url: 'https://x' } }) }, '/messages/0/content/0/image_url/url'],
    [{ remote_urls: false }, { messages: [{ role: 'user', type: 'web_search_call', content: [{ type: 'image_url', image_url: { url: 'https://x' } }] }] }, '/messages/0/content/0/image_url/url'],
    [{ remote_urls: false }, user({ type: 'url_citation', image_url: { url: 'https://x' } }), '/messages/0/content/0/image_url/url'],
    [{ remote_urls: false }, user({ type: 'url_citation', url_citation: { image_url: { url: 'https://x' } } }), '/messages/0/content/0/url_citation/image_url/url'],
    [{ stored_state: false }, {}, '/store'],
    [{ stored_state: false }, { store: null }, '/store'],
    [{ stored_state: false }, { store: false, audio: { voice: 'alloy', format: 'mp3' } }, undefined],
    [{ stored_state: false }, { store: true }, '/store'],
    [{ stored_state: false }, { store: 'no' }, '/store'],
    [{ stored_state: false }, { store: false, previous_response_id: 'x' }, '/previous_response_id'],
    [{ stored_state: false }, { store: false, ...user({ type: 'file', file: { file_id: 'file-1' } }) }, '/messages/0/content/0/file/file_id'],
    [{ stored_state: false }, { store: false, messages: [{ role: 'assistant', audio: { id: 'audio_1' } }] }, '/messages/0/audio'],
    [{ background: false }, { background: true }, '/background'],
    [{ stream_only: true }, { stream: true }, undefined],
    [{ stream_only: true }, {}, '/stream'],
    [{ max_output_tokens: 100 }, { max_completion_tokens: 100 }, undefined],
    [{ max_output_tokens: 100 }, { max_tokens: 100 }, undefined],
    [{ max_output_tokens: 100 }, { max_completion_tokens: 100, max_tokens: 101 }, '/max_tokens'],
    [{ max_output_tokens: 100 }, { max_completion_tokens: 101 }, '/max_completion_tokens'],
    [{ max_output_tokens: 100 }, { max_output_tokens: 100 }, '/max_completion_tokens'],
    [{ max_output_tokens: 100 }, { max_completion_tokens: 50, n: 2 }, undefined],
    [{ max_output_tokens: 100 }, { max_completion_tokens: 51, n: 2 }, '/max_completion_tokens'],
    [{ max_output_tokens: 100 }, { max_completion_tokens: 51, n: 0.1 }, '/n'],
    [{ max_output_tokens: 100 }, { max_completion_tokens: 51, n: '1' }, '/n'],
  ]);
});

describe('a verdict on a body', () => {
  test('tells the model and whether it streams, also of a refused request', () => {
    const facts = (body: Fields): unknown => verdictOn('/v1/responses', { tools: [] }, body).facts;
    expect(facts({ model: 'gpt-5', stream: true })).toEqual({ model: 'gpt-5', stream: true });
    expect(facts({ model: 'gpt-5', tools: [fn] })).toEqual({ model: 'gpt-5', stream: false });
    for (const model of [5, null, '', 'two words', 'nul\0', 'modèle', 'x'.repeat(257), '\u001b[31m']) {
      expect(facts({ model })).toEqual({ model: undefined, stream: false });
    }
  });

  test('is the same in shadow mode: the caller serves the request and records the refusal', () => {
    expect(verdictOn('/v1/responses', { mode: 'shadow', tools: [] }, tools(fn)).refusals[0]).toMatchObject({ status: 400, rule: 'tools' });
  });

  test('of more than max_body_bytes is refused before anything is read', () => {
    const policy = parsePolicy('{"max_body_bytes":10,"tools":[]}', '/v1/responses');
    expect(judgeBody(policy, Buffer.from('not a JSON text'))).toMatchObject({ refusals: [{ status: 400, code: 'body_too_large', rule: 'max_body_bytes' }] });
    expect(judgeBody(policy, Buffer.from('{"user":1}')).refusals[0]).toBeUndefined();
  });

  test('with max_body_bytes alone looks at nothing else', () => {
    const policy = parsePolicy('{"max_body_bytes":10}', '/v1/responses');
    expect(judgeBody(policy, Buffer.from('not JSON'))).toEqual({ refusals: [], facts: { model: undefined, stream: undefined } });
  });
});

describe('a verdict on a head', () => {
  const reads = parsePolicy('{"tools":[],"max_body_bytes":1000}', '/v1/responses');
  test.each<readonly [string[], string | undefined]>([
    [[], undefined],
    [['Content-Length', '1000'], undefined],
    [['Content-Length', '1001'], 'body_too_large'],
    [['content-length', '99999999999999999999'], 'body_too_large'],
    [['Transfer-Encoding', 'chunked'], undefined],
    [['Content-Encoding', 'identity'], undefined],
    [['Content-Encoding', ' Identity , identity'], undefined],
    [['Content-Encoding', ''], undefined],
    [['Content-Encoding', 'gzip'], 'unsupported_encoding'],
    [['CONTENT-ENCODING', 'zstd'], 'unsupported_encoding'],
    [['Content-Encoding', 'identity, br'], 'unsupported_encoding'],
    [['Content-Encoding', 'identity', 'Content-Encoding', 'deflate'], 'unsupported_encoding'],
    [['Content-Type', 'application/json'], undefined],
    [['Content-Type', 'Application/JSON; charset=UTF-8'], undefined],
    [['Content-Type', 'application/json;charset="utf-8"'], undefined],
    [['Content-Type', 'application/json; charset=utf-16'], 'unsupported_encoding'],
    [['Content-Type', 'application/json; charset=utf-8; charset=utf-7'], 'unsupported_encoding'],
    [['Content-Type', 'application/x-www-form-urlencoded'], 'unsupported_encoding'],
    [['Content-Type', 'multipart/form-data; boundary=x'], 'unsupported_encoding'],
    [['Content-Type', 'text/plain'], 'unsupported_encoding'],
    [['Content-Type', 'application/json', 'Content-Type', 'application/json'], 'unsupported_encoding'],
    [['Content-Type', `application/json${' '.repeat(60_000)}x`], 'unsupported_encoding'],
  ])('%#', (rawHeaders, code) => {
    expect(judgeHeaders(reads, rawHeaders)[0]?.code).toBe(code);
  });

  test('with limits alone, none', () => {
    const policy = parsePolicy('{"limits":{"concurrent":1}}', '/v1/responses');
    expect(judgeHeaders(policy, ['Content-Encoding', 'gzip', 'Content-Length', '99999999999'])).toEqual([]);
  });

  test('with max_body_bytes alone, of the length', () => {
    const policy = parsePolicy('{"max_body_bytes":10}', '/v1/embeddings');
    expect(judgeHeaders(policy, ['Content-Encoding', 'gzip', 'Content-Length', '10'])).toEqual([]);
    expect(judgeHeaders(policy, ['Content-Length', '11'])).toMatchObject([{ status: 400, code: 'body_too_large' }]);
  });
});
