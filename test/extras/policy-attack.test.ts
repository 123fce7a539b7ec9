import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { checkout } from '../support/daemon-paths.ts';
import { envelopeOf } from '../support/envelope.ts';
import { type Proxied, startBoth } from '../support/proxied.ts';
import { answer } from '../support/upstream.ts';

/**
 * A request of the real Codex, under the example policy, changed so that it would reach an address, stored state, or a model
 * or a tool that was not granted. `expect` is the rule that the refusal names.
 */
type Change = (request: Request) => void;
type Request = { [name: string]: unknown; input: object[] };

const url = 'https://example.com/?secret';
const content = (part: object, role = 'user'): Change => ({ input }) => input.push({ type: 'message', role, content: [part] });
const item = (added: object): Change => ({ input }) => input.push(added);
const field = (name: string, value: unknown): Change => (request) => { request[name] = value; };
const tool = (added: object): Change => item({ type: 'additional_tools', role: 'developer', tools: [added] });

const cached = { type: 'web_search', external_web_access: false };

const attacks: ReadonlyArray<readonly [rule: string, what: string, change: Change]> = [
  ['remote_urls', 'an image that calls itself a citation', content({ type: 'input_image', image_url: { type: 'url_citation', url } })],
  ['remote_urls', 'an image that calls itself a search', content({ type: 'input_image', image_url: { type: 'web_search_call', url } })],
  ['remote_urls', 'a file that calls itself a citation', content({ type: 'input_file', file_url: [{ type: 'url_citation', url }] })],
  ['remote_urls', 'an image in the annotations of what is no text', content({ type: 'input_image', annotations: [{ type: 'url_citation', image_url: url }] }, 'assistant')],
  ['remote_urls', 'an image in a search', item({ type: 'web_search_call', action: { type: 'open_page', image_url: url } })],
  ['remote_urls', 'an image in parameters', content({ type: 'input_image', parameters: { image_url: url } })],
  ['remote_urls', 'an image in the output of a tool', item({ type: 'custom_tool_call_output', call_id: 'c', output: [{ type: 'input_image', image_url: url }] })],
  ['remote_urls', 'Azure’s data sources', field('data_sources', [{ type: 'azure_search', parameters: { endpoint: url } }])],
  ['tools', 'a connector', tool({ type: 'mcp', server_label: 'x', connector_id: 'connector_gmail' })],
  ['tools', 'an approval for an MCP server', item({ type: 'mcp_approval_response', approval_request_id: 'mcpr_1', approve: true })],
  ['tools', 'a list that calls itself one of an MCP server', tool({ type: 'mcp_list_tools', tools: [{ type: 'web_search' }] })],
  ['tools', 'the whole request as such a list', (request) => { request['type'] = 'mcp_list_tools'; request['tools'] = [{ type: 'web_search' }]; }],
  ['tools', 'a container', tool({ type: 'shell', environment: { type: 'container_auto' } })],
  ['tools', 'a chosen search', field('tool_choice', { type: 'web_search_preview' })],
  ['tools', 'a live search', tool({ type: 'web_search', external_web_access: true })],
  ['tools', 'a live search among the tools', field('tools', [{ type: 'web_search', external_web_access: true }])],
  ['tools', 'one live search among cached ones', field('tools', [cached, { type: 'web_search_2025_08_26', external_web_access: true }, cached])],
  ['tools', 'a search that says nothing of access', field('tools', [{ type: 'web_search' }])],
  ['tools', 'a search whose access is nothing', field('tools', [{ type: 'web_search', external_web_access: null }])],
  ['tools', 'a search whose access is another word for false', field('tools', [{ type: 'web_search', external_web_access: 'false' }])],
  ['tools', 'a cached search that is live in another spelling', field('tools', [{ ...cached, externalWebAccess: true }])],
  ['tools', 'a cached search with access of another name', field('tools', [{ ...cached, indexed_web_access: true }])],
  ['tools', 'an older search, which does not ask', field('tools', [{ type: 'web_search_preview', external_web_access: false }])],
  ['tools', 'a chosen search that is called web_search', field('tool_choice', { type: 'web_search' })],
  ['tools', 'a search of chat', field('web_search_options', {})],
  ['tools', 'a model that searches', field('model', 'gpt-5-search-api')],
  ['service_tiers', 'the dearest tier', field('service_tier', 'ultrafast')],
  ['service_tiers', 'the project’s tier, by its name', field('service_tier', 'auto')],
  ['service_tiers', 'a tier in another spelling', field('serviceTier', 'priority')],
  ['service_tiers', 'tiers to choose from', field('service_tier', ['default', 'priority'])],
  ['reasoning_modes', 'a mode that costs several times as much', field('reasoning', { effort: 'low', mode: 'pro' })],
  ['reasoning_modes', 'that mode in another spelling', field('reasoning', { Mode: 'pro' })],
  ['reasoning_modes', 'that mode for the turns after', item({ type: 'configuration_update', reasoning: { mode: 'pro' } })],
  ['models', 'another model', field('model', 'o1-pro')],
  ['models', 'a model beside it', field('models', ['gpt-5', 'o1-pro'])],
  ['models', 'a model to fall back to', field('fallback_model', 'o1-pro')],
  ['models', 'a moderation model', field('moderation', { model: 'omni-moderation-latest' })],
  ['models', 'a stored prompt', field('prompt', { id: 'pmpt_1' })],
  ['stored_state', 'a cache for a day', field('prompt_cache_retention', '24h')],
  ['stored_state', 'a cache for half a day', field('prompt_cache_options', { ttl: '12h' })],
  ['stored_state', 'the same for a part of it', content({ type: 'input_text', text: 'x', prompt_cache_breakpoint: { mode: 'explicit', ttl: '12h' } })],
  ['stored_state', 'another response’s cache', field('prompt_cache_options', { comparison_response_id: 'resp_1' })],
  ['stored_state', 'reasoning by its id', item({ type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'x' }] })],
  ['stored_state', 'an item by its id, in a list of its own', ({ input }) => input.push([{ id: 'msg_1' }])],
  ['stored_state', 'an item by its id, among the instructions', field('instructions', [{ id: 'msg_1' }])],
  ['stored_state', 'the results of a search by its id', item({ type: 'file_search_call', id: 'fs_1', status: 'completed', queries: ['x'] })],
  ['stored_state', 'an image by its id', content({ type: 'input_image', file_id: 'file-1' })],
  ['fields', 'agents', field('multi_agent', { enabled: true })],
  ['fields', 'privileges', field('access_programs', { cyber: 'daybreak_red' })],
  ['fields', 'what a gateway may understand', field('extra_body', {})],
];

const recorded = readFileSync(join(checkout, 'test/extras/fixtures/codex-request.json'), 'utf8');
let both: Proxied;

beforeAll(async () => {
  both = await startBoth({ args: ['--policy', join(checkout, 'scripts/policies/codex.json')] });
  both.upstream.answerWith(answer(200, '{}'));
});

function post(change: Change): ReturnType<Proxied['ask']> {
  const request = JSON.parse(recorded) as Request;
  change(request);
  return both.ask({ headers: [['Content-Type', 'application/json']], body: Buffer.from(JSON.stringify(request)) });
}

test.each(attacks)('%s: %s is refused, and nothing of it goes up', async (rule, _, change) => {
  const refused = await post(change);
  expect(refused.status).toBe(400);
  expect(envelopeOf(refused)).toMatchObject({ code: 'policy_denied', message: expect.stringContaining(`The policy (${rule}) does not allow `) });
  expect(both.upstream.requests).toHaveLength(0);
});

test.each(['OpenAI-Organization', 'openai-project', 'OpenAI_Project', 'OPENAI-ORGANIZATION'])('account_headers: another account by %s is refused', async (name) => {
  const refused = await both.ask({ headers: [['Content-Type', 'application/json'], [name, 'org-1']], body: recorded });
  expect(refused.status).toBe(400);
  expect(envelopeOf(refused)).toMatchObject({ code: 'policy_denied', message: expect.stringContaining('The policy (account_headers) does not allow ') });
  expect(both.upstream.requests).toHaveLength(0);
});

test.each([
  ['in tools', field('tools', [cached, { ...cached, search_content_types: ['text', 'image'] }, { ...cached, type: 'web_search_2025_08_26' }])],
  ['in an item', tool(cached)],
  ['in a namespace', tool({ type: 'namespace', name: 'n', tools: [cached] })],
])('a cached search %s goes up', async (_, change) => {
  expect((await post(change)).status).toBe(200);
});

test('the request as Codex sends it goes up', async () => {
  const before = both.upstream.requests.length;
  expect((await post(() => {})).status).toBe(200);
  expect(both.upstream.requests).toHaveLength(before + 1);
});
