import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { audit, linesOf, requestsOf, verdictOn } from '../support/audit.ts';
import { runToExit } from '../support/daemon.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, asking, startBoth, uploadHead } from '../support/proxied.ts';
import { ask, connect } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, streamHead } from '../support/upstream.ts';

const json = ['Content-Type', 'application/json'] as const;
const body = '{"model":"gpt-5","service_tier":"flex","stream":true}';
const streams = 20;

let file: string;

beforeEach(() => {
  file = join(scratchFolder(), 'audit.log');
});

const admitted = (): Array<Record<string, unknown>> => linesOf(file).filter(({ kind }) => kind === 'admitted');

const policy = (more: object = {}): readonly string[] => policyArgs({ models: ['gpt-*'], service_tiers: ['flex'], limits: { tokens_total: 10_000, ...more } });

function start(...args: readonly string[]): Promise<Proxied> {
  return startBoth({ args: ['--audit-log', file, ...args] });
}

test('when the upstream gets a request, its admission is in the log, with what a policy has read', async () => {
  const both = await start(...policy());
  let seen: Array<Record<string, unknown>> = [];
  both.upstream.answerWith(() => {
    seen = linesOf(file);
    return answer(200, '{"usage":{"total_tokens":70}}');
  });
  const response = await ask(both.daemon.port, { headers: [json], body });
  const [id] = response.values('x-audit-id');
  expect(seen.map(({ kind }) => kind)).toEqual(['begin', 'start', 'admitted']);
  expect(seen[2]).toEqual({ kind: 'admitted', time: expect.any(String), id, uid: process.getuid?.(), model: 'gpt-5', service_tier: 'flex', estimate: body.length, prev: expect.any(String), hash: expect.any(String) });
  expect(linesOf(file).slice(3)).toMatchObject([{ kind: 'request', id, charged: 70 }]);
});

test.each([
  ['a length', `Content-Length: ${body.length}`, body, body.length],
  ['chunks', 'Transfer-Encoding: chunked', `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`, 1_050_000],
])('without a policy a body with %s is piped, and its admission is there before', async (_, framing, bytes, estimate) => {
  const both = await start();
  const client = await connect(both.daemon.port);
  await client.send(`${uploadHead(both.daemon.port, framing)}${bytes.slice(0, 20)}`);
  const request = await both.nextRequest();
  expect(admitted()).toMatchObject([{ estimate }]);
  expect(admitted()[0]).not.toHaveProperty('model');
  await client.send(bytes.slice(20));
  await request.reply(answer(500, '{}'));
  await client.response();
  expect(requestsOf(file)).toMatchObject([{ charged: 0, status: 500 }]);
});

test('what is refused has no admission, and is charged nothing', async () => {
  const both = await start('--http-health', ...policy());
  await ask(both.daemon.port, { headers: [json], body: '{"model":"o1"}' });
  await ask(both.daemon.port, { method: 'GET', target: '/health' });
  expect(admitted()).toEqual([]);
  expect(requestsOf(file).map((record) => 'charged' in record)).toEqual([false, false]);
});

test(`kill -9 with ${streams} streams: each is in the log, and the next start closes and charges it once`, async () => {
  const both = await start(...policy());
  for (let count = 0; count < streams; count++) {
    const { client, request } = await asking(both, { headers: [json], body });
    await request.reply(streamHead());
    await client.waitFor('\r\n\r\n');
  }
  both.daemon.signal('SIGKILL');
  await both.daemon.waitForExit();
  expect(admitted()).toHaveLength(streams);
  expect(requestsOf(file)).toEqual([]);
  const charged = streams * body.length;
  expect((await audit('summary', file)).said).toEqual([`${file}: ${streams} requests have not ended; ${charged} tokens are reserved for them`]);
  expect((await audit('list', file)).stdout.match(/has not ended$/gm)).toHaveLength(streams);

  const before = readFileSync(file);
  const args = [...both.upstream.args, '--audit-log', file, ...policy()];
  expect((await runToExit({ args: [...args, '--check'] })).stdout).toContain(`${charged} of 10000 tokens are used`);
  expect(readFileSync(file)).toEqual(before);

  for (let restart = 0; restart < 2; restart++) {
    const next = await start(...policy());
    await next.daemon.waitForStderr(new RegExp(`: ${charged} of 10000 tokens are used`));
    expect(requestsOf(file)).toHaveLength(streams);
    await next.daemon.stop();
  }
  expect(requestsOf(file).find(({ id }) => id === admitted()[0]?.['id'])).toMatchObject({ uid: process.getuid?.(), model: 'gpt-5', service_tier: 'flex', decision: 'allowed', ended: 'unknown', charged: body.length });
  expect((await audit('summary', file, '--json')).stdout).toContain(`"by":"all","requests":${streams},"refused":0,"unknown":${streams},"input":0,"cached":0,"output":0,"reasoning":0,"total":0,"charged":${charged}}`);
  // The first start after the kill has no stop before it.
  const starts = linesOf(file).flatMap(({ kind }, index) => (kind === 'start' ? [index + 1] : []));
  expect(await verdictOn(file)).toMatchObject({ ok: true, uncleanEnds: [starts[1]] });
});

test('what runs when the daemon is stopped is charged, with a policy that reads it too', async () => {
  const both = await start('--shutdown-timeout', '0.1', ...policy());
  await asking(both, { headers: [json], body });
  expect((await both.daemon.stop()).code).toBe(0);
  expect(linesOf(file).slice(-2)).toMatchObject([{ kind: 'request', ended: 'stopped', bytes_up: body.length }, { kind: 'stop' }]);
  expect(Number(requestsOf(file)[0]?.['charged'])).toBeGreaterThanOrEqual(body.length);
});
