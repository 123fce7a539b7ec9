import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { newMachine, type Machine } from '../support/readers-machine.ts';
import { snippetIn, tableIn } from '../support/readme.ts';
import { freePort } from '../support/upstream.ts';

const policy = snippetIn('src/proxy/README.md', '"tokens_per_day"');
const two = snippetIn('src/proxy/README.md', '--port 8788');
const listening = /^responses-api-proxy listening on 127\.0\.0\.1:(\d+)\n/m;

/** The key's way in, which the README puts before each line. */
const piped = 'printenv OPENAI_API_KEY | env -u OPENAI_API_KEY ';

/** What somebody comes from, and the line that does it here. */
const rows = tableIn('src/proxy/README.md', 'Other endpoints, other gateways').map(([from = '', here = '']) => ({ from, line: /`(.*)`/.exec(here)?.[1] ?? '' }));

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** A daemon that a line of the README has started. */
interface Served {
  readonly machine: Machine;
  readonly port: number;
  ask(request?: object, headers?: Readonly<Record<string, string>>): Promise<Answer>;
}

const chat = { model: 'gpt-4o', messages: [{ role: 'user', content: 'Say hello' }], max_completion_tokens: 100, store: false };
const streamedChat = { ...chat, stream: true, stream_options: { include_usage: true } };
const response = { model: 'gpt-5', input: 'Say hello', store: false, max_output_tokens: 100 };
const hello = 'Hello from the stand-in upstream.';

async function post(url: string, request: object, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', authorization: 'Bearer none', ...headers }, body: JSON.stringify(request) });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

async function servedBy(line: string, env: Readonly<Record<string, string>> = {}): Promise<Served> {
  const machine = await newMachine();
  writeFileSync(join(machine.folder, 'policy.json'), policy.code, { mode: 0o600 });
  const daemon = machine.start({ code: piped + line }, { env, instead: { 8787: String(await freePort()) } });
  const port = Number((await daemon.waitForStderr(listening))[1]);
  const endpoint = /--endpoint (\S+)/.exec(line)?.[1] ?? '/v1/responses';
  const ask = (request = {}, headers = {}): Promise<Answer> => post(`http://127.0.0.1:${port}${endpoint}`, request, headers);
  return { machine, port, ask };
}

/** What came to the upstream last. */
function lastSent({ standIn }: Machine): { target: string; headers: Record<string, unknown> } {
  const { target, headers } = standIn.requests.at(-1) ?? { target: '', headers: {} };
  return { target, headers };
}

/** What a row promises beside an answer, by a word of it. */
const promises: ReadonlyArray<readonly [string, (line: string) => Promise<void>]> = [
  ['virtual keys', async (line) => {
    const { machine, ask } = await servedBy(line);
    const { token } = JSON.parse(readFileSync(join(machine.folder, 'server-info.json'), 'utf8')) as { token: string };
    const virtualKey = { authorization: `Bearer ${token}` };
    expect((await ask(streamedChat, virtualKey)).text).toMatch(/data: \[DONE\]\n\n$/);
    expect(JSON.parse((await ask(chat, virtualKey)).text)).toMatchObject({ object: 'chat.completion', choices: [{ message: { content: expect.stringContaining(hello) } }] });
    expect(lastSent(machine).headers).toMatchObject({ authorization: `Bearer ${machine.key}` });
    const served = machine.standIn.requests.length;
    expect((await ask(chat)).status).toBe(401);
    const image = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }] }];
    for (const denied of [
      { ...chat, model: 'o1' }, { ...chat, tools: [{ type: 'custom', custom: { name: 'c' } }] }, { ...chat, messages: image }, { ...chat, store: true }, { ...chat, store: undefined },
      { ...chat, max_completion_tokens: 4097 }, { ...chat, max_completion_tokens: undefined },
    ]) expect(await ask(denied, virtualKey)).toMatchObject({ status: 400, text: expect.stringContaining('policy_denied') });
    expect(machine.standIn.requests).toHaveLength(served);
  }],
  ['`organization`', async (line) => {
    // What they do is in forwarding/timeouts.test.ts; here, that the line has them.
    for (const flag of ['connect', 'response', 'idle']) expect(line).toMatch(new RegExp(`--${flag}-timeout \\d+ `));
    const { machine, ask } = await servedBy(line);
    expect(await ask(response, { 'OpenAI-Organization': 'theirs' })).toMatchObject({ status: 400, text: expect.stringContaining('account_headers') });
    expect(await ask(response)).toMatchObject({ status: 200, text: expect.stringContaining(hello) });
    expect(lastSent(machine).headers).toMatchObject({ 'authorization': `Bearer ${machine.key}`, 'openai-organization': 'org-123' });
    for (const stored of [{ ...response, store: true }, { ...response, store: undefined }, { ...response, previous_response_id: 'resp_1' }]) {
      expect(await ask(stored)).toMatchObject({ status: 400, text: expect.stringContaining('stored_state') });
    }
    const statuses = await Promise.all(Array.from({ length: 60 }, async () => (await ask(response)).status));
    expect(statuses.sort()).toEqual([...Array<number>(59).fill(200), 429]);
  }],
  ['Azure', async (line) => {
    const { machine, ask } = await servedBy(line);
    expect((await ask(streamedChat, { 'api-key': 'theirs' })).text).toMatch(/data: \[DONE\]\n\n$/);
    const { target, headers } = lastSent(machine);
    expect(target).toBe('/openai/v1/chat/completions');
    expect(headers['api-key']).toBe(machine.key);
    expect(headers).not.toHaveProperty('authorization');
  }],
  ['transparent', async (line) => {
    const { machine, port, ask } = await servedBy(line, { OPENAI_API_BASE: 'https://api.openai.com/v1' });
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
    expect((await ask(streamedChat)).text).toMatch(/data: \[DONE\]\n\n$/);
    expect((await ask(chat)).text).toContain(hello);
    expect(lastSent(machine)).toMatchObject({ target: '/v1/chat/completions', headers: { authorization: `Bearer ${machine.key}` } });
  }],
];

describe('each line of the table serves what it says', () => {
  test.for(rows)('from $from', async ({ from, line }) => {
    const [promise, ...others] = promises.filter(([word]) => from.includes(word));
    expect(others).toEqual([]);
    if (promise === undefined) throw new Error('nothing tests this row');
    await promise[1](line);
  });

  test('and no promise is without a row', () => {
    for (const [word] of promises) expect(rows.filter(({ from }) => from.includes(word))).toHaveLength(1);
  });
});

test('two endpoints are two daemons, in two lines', async () => {
  expect(two.code.trimEnd().split('\n')).toHaveLength(2);
  const machine = await newMachine();
  const ports = [await freePort(), await freePort()];
  const daemons = machine.start(two, { instead: { 8787: String(ports[0]), 8788: String(ports[1]) } });
  await Promise.all(ports.map((port) => daemons.waitForStderr(new RegExp(`^responses-api-proxy listening on 127\\.0\\.0\\.1:${port}\n`, 'm'))));
  const asked = [['/v1/responses', response], ['/v1/chat/completions', chat]] as const;
  for (const [index, port] of ports.entries()) {
    for (const [which, [path, request]] of asked.entries()) {
      const { status, text } = await post(`http://127.0.0.1:${port}${path}`, request, {});
      expect([status, text]).toEqual(index === which ? [200, expect.stringContaining(hello)] : [403, expect.stringContaining(`POST ${asked[index]?.[0]} `)]);
    }
  }
  expect(machine.standIn.requests.map(({ target }) => target)).toEqual(['/v1/responses', '/v1/chat/completions']);
});
