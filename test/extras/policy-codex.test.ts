import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { judgeBody, judgeHeaders } from '../../src/extras/policy/policy-verdict.ts';
import { parsePolicy } from '../../src/extras/policy/policy.ts';
import { checkout } from '../support/daemon-paths.ts';

/**
 * What Codex CLI 0.169.0 sent for one message, recorded with `scripts/try-codex --record`. Ids, paths and the words of its
 * prompts are replaced, byte for byte as long; the structure, names and types are its own.
 */
const recorded = readFileSync(join(checkout, 'test/extras/fixtures/codex-request.json'));
const policy = parsePolicy(readFileSync(join(checkout, 'scripts/policies/codex.json'), 'utf8'), '/v1/responses');

type Request = { [name: string]: unknown; input: Array<{ [name: string]: unknown; tools: unknown[] }> };

function refusalOf(change: (request: Request) => void): string | undefined {
  const request = JSON.parse(recorded.toString()) as Request;
  change(request);
  return judgeBody(policy, Buffer.from(JSON.stringify(request))).refusals[0]?.message;
}

describe('the example policy and a real request of the Codex CLI', () => {
  test('it passes', () => {
    expect(judgeHeaders(policy, ['content-type', 'application/json', 'content-length', String(recorded.length)])).toEqual([]);
    expect(judgeBody(policy, recorded)).toEqual({ refusals: [], facts: { model: 'gpt-6.1-sol', stream: true } });
  });

  test('so does what Codex adds in the turns after', () => {
    const additions = [
      { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'gAAAA' },
      { type: 'function_call', status: 'completed', id: 'fc_1', name: 'exec_command', arguments: '{"cmd":"curl https://example.com"}', call_id: 'call_1' },
      { type: 'function_call_output', id: 'fco_1', call_id: 'call_1', output: 'https://example.com' },
      { type: 'custom_tool_call', id: 'ctc_1', call_id: 'call_2', name: 'apply_patch', input: '*** Begin Patch' },
      { type: 'custom_tool_call_output', call_id: 'call_2', output: [{ type: 'input_image', image_url: 'data:image/png;base64,AA==' }] },
      { type: 'tool_search_output', execution: 'client', call_id: 'call_3', tools: [{ type: 'function', name: 'f', parameters: {} }] },
      { type: 'compaction', encrypted_content: 'gAAAA' },
    ];
    expect(refusalOf(({ input }) => input.push(...(additions as never[])))).toBeUndefined();
  });

  test.each<readonly [string, (request: Request) => void]>([
    ['models', (request) => (request['model'] = 'o1-pro')],
    ['tools', ({ input }) => input[0]?.tools.push({ type: 'web_search', external_web_access: true })],
    ['tools', ({ input }) => input[0]?.tools.push({ type: 'namespace', tools: [{ type: 'mcp', server_url: 'https://example.com' }] })],
    ['tools', (request) => (request['tools'] = [{ type: 'code_interpreter', container: { type: 'auto' } }])],
    ['remote_urls', ({ input }) => input.push({ type: 'message', content: [{ type: 'input_image', image_url: 'https://example.com/?secret' }], tools: [] })],
    ['stored_state', (request) => delete request['store']],
    ['stored_state', (request) => (request['previous_response_id'] = 'resp_1')],
    ['background', (request) => (request['background'] = true)],
    ['stream_only', (request) => (request['stream'] = false)],
  ])('what goes beyond it does not: %s', (rule, change) => {
    expect(refusalOf(change)).toContain(`The policy (${rule}) does not allow`);
  });

  test('a compressed one, as of a Codex that is logged in with ChatGPT, is told what to do', () => {
    const [refusal] = judgeHeaders(policy, ['content-type', 'application/json', 'content-encoding', 'zstd']);
    expect(refusal).toMatchObject({ code: 'unsupported_encoding', message: expect.stringContaining('features.enable_request_compression=false') });
  });

  test('a byte cut off or added makes it 400', () => {
    expect(judgeBody(policy, recorded.subarray(0, -1)).refusals[0]).toMatchObject({ status: 400, code: 'invalid_body', rule: 'body' });
    expect(judgeBody(policy, Buffer.concat([recorded, Buffer.from('}')])).refusals[0]).toMatchObject({ status: 400 });
  });
});
