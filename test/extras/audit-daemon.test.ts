import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startStandIn } from '../../scripts/stand-in-upstream.ts';
import { linesOf, requestsOf, verdictOn } from '../support/audit.ts';
import { cleanUp } from '../support/cleanup.ts';
import { endpoints } from '../support/endpoints.ts';
import { launch, startDaemon } from '../support/daemon.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

let file: string;

beforeEach(() => {
  file = join(scratchFolder(), 'audit.log');
});

function start(...args: readonly string[]): Promise<Proxied> {
  return startBoth({ args: ['--audit-log', file, ...args] });
}

const requests = (): Array<Record<string, unknown>> => requestsOf(file);

describe.for(endpoints)('against the stand-in, at $name', (endpoint) => {
  test.each([true, false])('stream %s: the record is there when the answer ends, with its usage; its id is in x-audit-id', async (stream) => {
    const key = 'sk-stand-in-0123456789abcdefghij';
    const standIn = await startStandIn({ key });
    cleanUp(() => standIn.close());
    const url = new URL(endpoint.path, standIn.url).href;
    const daemon = await startDaemon({ key, args: ['--upstream-url', url, '--upstream-ca', standIn.caFile, ...endpoint.args(), '--audit-log', file] });
    const body = JSON.stringify(endpoint.asking('x'.repeat(5000), { stream }));
    const response = await fetch(`${daemon.origin}${endpoint.path}`, { method: 'POST', headers: { 'x-stand-in': 'reasoning' }, body });
    const text = await response.text();
    const last = requests().at(-1);
    const usage = /"usage":\s*(\{[^]*?\}[^]*?\}[^]*?\})/.exec(text)?.[1] ?? '{}';
    const { total_tokens, ...tokens } = JSON.parse(usage) as Record<string, number> & Record<string, Record<string, number>>;
    const { input, output } = endpoint.usage;
    expect(total_tokens).toBeGreaterThan(1000);
    expect(last).toMatchObject({
      id: response.headers.get('x-audit-id'), model: 'gpt-5', stream, status: 200, ended: 'complete', decision: 'allowed', method: 'POST', target: endpoint.path,
      upstream_request_id: response.headers.get('x-request-id'), bytes_down: Buffer.byteLength(text), bytes_up: body.length,
      usage: { input: tokens[input], cached: tokens[`${input}_details`]?.['cached_tokens'], output: tokens[output], reasoning: tokens[`${output}_details`]?.['reasoning_tokens'], total: total_tokens },
    });
    expect(readFileSync(file, 'latin1')).not.toContain(key);
  });
});

describe('how it ended:', () => {
  let both: Proxied;
  let log: string;

  beforeAll(async () => {
    log = join(scratchFolder(), 'audit.log');
    both = await startBoth({ args: ['--audit-log', log] });
  });

  beforeEach(() => {
    both.startOver();
    file = log;
    before = requests().length;
  });

  let before: number;
  const since = (): Array<Record<string, unknown>> => requests().slice(before);

  /** The only request that is recorded, as soon as it is. */
  async function recorded(): Promise<Record<string, unknown> | undefined> {
    await expect.poll(() => since().length).toBe(1);
    return since()[0];
  }

  test('refused', async () => {
    const client = await connect(both.daemon.port);
    await client.send(both.rawRequest({ method: 'GET', target: '/v1/models?key=sk-secret' }));
    const { values } = await client.response();
    expect(since()).toMatchObject([{ decision: 'refused', rule: 'endpoint_not_allowed', ended: 'refused', status: 403, method: 'GET', target: '/v1/models?*', id: values('x-audit-id')[0] }]);
  });

  test('refused, what is no request at all', async () => {
    for (const raw of ['NONSENSE\r\n\r\n', 'CONNECT sk-secret:443 HTTP/1.1\r\nHost: x\r\n\r\n']) {
      const client = await connect(both.daemon.port);
      await client.send(raw);
      const { values } = await client.response();
      expect(requests().at(-1)).toMatchObject({ decision: 'refused', ended: 'refused', id: values('x-audit-id')[0] });
    }
    expect(readFileSync(file, 'latin1')).not.toContain('secret');
  });

  test('complete, where the body is not JSON', async () => {
    both.upstream.answerWith(answer(200, 'hello', [['content-type', 'text/plain'], ['X-Audit-Id', 'forged'], ['x-request-id', 'req_1']]));
    const client = await connect(both.daemon.port);
    await client.send(both.rawRequest({ body: 'no JSON', headers: [['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01']] }));
    const { values } = await client.response();
    const record = await recorded();
    expect(values('x-audit-id')).toEqual([record?.['id']]);
    expect(record).toMatchObject({ ended: 'complete', status: 200, bytes_up: 7, bytes_down: 5, upstream_request_id: 'req_1', traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' });
    expect(record).not.toHaveProperty('model');
    expect(record).not.toHaveProperty('usage');
  });

  test('client_left', async () => {
    const { client, request } = await asking(both, { body: '{"model":"gpt-5","stream":true}' });
    await request.reply(streamHead());
    await client.waitFor('\r\n\r\n');
    client.close();
    expect(await recorded()).toMatchObject({ ended: 'client_left', status: 200, model: 'gpt-5', stream: true });
  });

  test('client_left, in the middle of its upload', async () => {
    const client = await connect(both.daemon.port);
    await client.send(`${both.uploadHead('Content-Length: 100')}{"model":"gpt-5",`);
    await both.nextRequest();
    client.close();
    const record = await recorded();
    expect(record).toMatchObject({ ended: 'client_left' });
    expect(record).not.toHaveProperty('status');
  });

  test('client_left, when it breaks its request off after a part of it went up', async () => {
    const client = await connect(both.daemon.port);
    await client.send(`${both.uploadHead('Transfer-Encoding: chunked')}5\r\nhello\r\n`);
    await both.nextRequest();
    await client.send('nonsense\r\n');
    const { status, values } = await client.response();
    expect(await recorded()).toMatchObject({ decision: 'allowed', ended: 'client_left', status, id: values('x-audit-id')[0], bytes_up: 5 });
  });

  test('upstream_cut', async () => {
    const { client, request } = await asking(both);
    await request.reply(`${streamHead()}5\r\nhello\r\n`);
    await client.waitFor('hello');
    request.connection.close();
    await client.waitForClose();
    expect(await recorded()).toMatchObject({ ended: 'upstream_cut', status: 200, bytes_down: 5 });
  });

  test('upstream_failed', async () => {
    const { client, request } = await asking(both);
    request.connection.close();
    const { status, values } = await client.response();
    expect(await recorded()).toMatchObject({ ended: 'upstream_failed', status, id: values('x-audit-id')[0] });
  });

  test('stopped, with the daemon', async () => {
    await asking(both);
    both.daemon.signal('SIGTERM');
    both.daemon.signal('SIGINT');
    await both.daemon.waitForExit();
    expect(await recorded()).toMatchObject({ ended: 'stopped' });
    expect(await verdictOn(log)).toMatchObject({ ok: true });
  });
});

test('kill -9 under load: the log is whole, and the next daemon goes on with it', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  for (let round = 0; round < 2; round++) {
    const daemon = await startDaemon({ args: [...upstream.args, '--audit-log', file] });
    const clients = Promise.allSettled(Array.from({ length: 8 }, async () => {
      for (;;) await (await fetch(daemon.url, { method: 'POST', body: '{}' })).text();
    }));
    await expect.poll(() => requests().length).toBeGreaterThan(30 * (round + 1));
    daemon.signal('SIGKILL');
    await clients;
    await daemon.waitForExit();
    expect(await verdictOn(file)).toMatchObject({ ok: true });
  }
  expect(linesOf(file).filter(({ kind }) => kind === 'begin')).toHaveLength(1);
});

test('parallel exchanges are recorded once each, in a whole chain', async () => {
  const count = 80; // both ends of a connection are files of this process, which may have no more than 256
  const both = await start();
  both.upstream.answerWith(answer(200, '{"model":"m","usage":{"total_tokens":1}}'));
  const ids = await Promise.all(Array.from({ length: count }, async () => (await fetch(both.daemon.url, { method: 'POST', body: '{}' })).headers.get('x-audit-id')));
  await expect.poll(() => requests().length).toBe(count);
  expect(new Set(requests().map(({ id }) => id))).toEqual(new Set(ids));
  expect(await verdictOn(file)).toMatchObject({ ok: true, records: 2 + 2 * count });
});

describe('responses-api-proxy audit', () => {
  test('needs no key and reads no stdin, while the daemon writes', async () => {
    const both = await start();
    both.upstream.answerWith(answer(200, '{"model":"gpt-5","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}'));
    await (await fetch(both.daemon.url, { method: 'POST', body: '{"model":"gpt-5"}' })).text();
    for (const [argv, expected] of [[['verify'], /4 records, each as it was written/], [['list'], /gpt-5 +200 +complete +3 +4/], [['summary'], /gpt-5 +1 +0 +0 +3 +0 +4 +0 +7 +7/]] as const) {
      const exit = await launch({ args: ['audit', ...argv, file], stdin: () => {} }).waitForExit();
      expect(exit).toMatchObject({ code: 0, stderr: '' });
      expect(exit.stdout).toMatch(expected);
    }
  });

  test('exits 1 where the chain is broken, 2 for wrong arguments', async () => {
    const both = await start();
    await both.daemon.stop();
    truncateSync(file, 0);
    expect(await launch({ args: ['audit', 'verify', file, '--nope'] }).waitForExit()).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^responses-api-proxy: unknown flag --nope\nhint: .*\n$/) });
    expect(await launch({ args: ['audit', 'verify', '/etc/passwd'] }).waitForExit()).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^responses-api-proxy: \/etc\/passwd: line 1 is no record\nhint: /) });
  });
});

test('a second daemon with the same log does not start', async () => {
  const both = await start();
  const exit = await launch({ args: [...both.upstream.args, '--audit-log', file] }).waitForExit();
  expect(exit).toMatchObject({ code: 1, stderr: expect.stringMatching(/^responses-api-proxy: cannot open --audit-log .*: another process has it open as its audit log\nhint: /) });
  await both.daemon.stop();
  await startBoth({ args: ['--audit-log', file] });
});
