import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { linesOf } from '../support/audit.ts';
import { chunk, chunked } from '../support/http-bytes.ts';
import { type Malformed, badChunks, badFraming, badHeaders, badRequestLines } from '../support/malformed-requests.ts';
import { policyArgs } from '../support/policy.ts';
import { type Proxied, asking, startBoth, uploadHead } from '../support/proxied.ts';
import { type RawRequest, type RawResponse, connect, exchange, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { type UpstreamOptions, answer, streamHead } from '../support/upstream.ts';

let file: string;

beforeEach(() => {
  file = join(scratchFolder(), 'audit.log');
});

function start(...args: readonly string[]): Promise<Proxied> {
  return startBoth({ args: ['--audit-log', file, ...args] });
}

/** Each answer carries the id of one record, of the same status, which is in the file by now; and there are no other records. */
function expectRecorded(responses: readonly RawResponse[], { others = 0 } = {}): void {
  const records = linesOf(file).filter(({ kind }) => kind === 'request');
  for (const response of responses) {
    const ids = response.values('x-audit-id');
    expect(ids, response.rawHead).toHaveLength(1);
    const own = records.filter(({ id }) => id === ids[0]);
    expect(own.map(({ status }) => status), response.rawHead).toEqual([response.status]);
  }
  expect(new Set(records.map(({ id }) => id)).size).toBe(records.length);
  expect(records).toHaveLength(responses.length + others);
}

/** Puts one question after the other, each on a connection of its own. */
async function answersTo({ daemon }: Proxied, questions: ReadonlyArray<string | Uint8Array | RawRequest>): Promise<RawResponse[]> {
  const responses: RawResponse[] = [];
  for (const question of questions) {
    const isRaw = typeof question === 'string' || question instanceof Uint8Array;
    responses.push(await exchange(daemon.port, isRaw ? question : rawRequest(daemon.port, question), { bodiless: !isRaw && question.method === 'HEAD' }));
  }
  return responses;
}

const upstreamAnswers: ReadonlyArray<readonly [string, string | Buffer]> = [
  ['an answer of the upstream in plain words', answer(200, 'hello', [])],
  ['an error of the upstream', answer(429, '{}', [['retry-after', '7'], ['x-audit-id', 'theirs'], ['X-AUDIT-ID', 'theirs']])],
  ['a redirect', answer(307, '', [['location', 'https://elsewhere.example/'], ['x-Audit-Id', '']])],
  ['204', 'HTTP/1.1 204 No Content\r\nx-audit-id: theirs\r\n\r\n'],
  ['304', 'HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n'],
  ['an answer after interim ones', `HTTP/1.1 103 Early Hints\r\nx-audit-id: theirs\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n${answer(200, 'whole').toString()}`],
  ['a stream with trailers', `${streamHead()}5\r\nhello\r\n0\r\nx-audit-id: theirs\r\n\r\n`],
  ['what is not HTTP: 502', 'nonsense\r\n\r\n'],
  ['a transfer coding that nobody asked for: 502', 'HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello'],
  ['an upgrade that nobody asked for: 502', 'HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n'],
];

describe('an answer carries the id of its record', () => {
  test('to what is no request, or one that two parsers could read differently', async () => {
    const both = await start();
    const kinds: ReadonlyArray<(port: number) => Malformed[]> = [badFraming, badHeaders, badRequestLines, badChunks];
    expectRecorded(await answersTo(both, kinds.flatMap((kind) => kind(both.daemon.port)).map(([, raw]) => raw)));
  });

  test('to what the gate refuses', async () => {
    const both = await start('--allow-user', '65534');
    const refused = await answersTo(both, [{ host: 'evil.example' }, { host: undefined }, { headers: [['Origin', 'null']] }, {}]);
    expect(refused.map(({ status }) => status)).toEqual([403, 403, 403, 403]);
    expectRecorded(refused);
  });

  test('to what the gate refuses for its target, method, version, expectation, size or token', async () => {
    const token = join(scratchFolder(), 'token');
    writeFileSync(token, 'token-0123456789', { mode: 0o600 });
    const both = await start('--client-token-file', token);
    const { port } = both.daemon;
    const refused = await answersTo(both, [
      { target: '/v1/models' },
      { method: 'HEAD' },
      { method: 'HEAD', target: '/health' },
      { method: 'OPTIONS', target: '*' },
      { version: 'HTTP/1.0', target: '/' },
      { headers: [['Expect', '200-ok']] },
      { headers: [['Expect', '100-continue']], target: '/' },
      { headers: Array.from({ length: 257 }, () => ['X', 'y'] as const) },
      { headers: [['X', 'y'.repeat(70_000)]] },
      {},
      { headers: [['Authorization', 'Bearer token-0123456780']] },
      { headers: [['Connection', 'Upgrade'], ['Upgrade', 'websocket']], method: 'GET', body: undefined },
      `CONNECT example.com:443 HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`,
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'POST /v1/responses\r\n\r\n',
    ]);
    expect(refused.map(({ status }) => status)).toEqual([403, 403, 403, 403, 403, 417, 403, 431, 431, 401, 401, 403, 403, 400, 403]);
    expectRecorded(refused);
  });

  test('to what the policy refuses', async () => {
    const both = await start(...policyArgs({ models: ['gpt-*'], max_body_bytes: 1000, limits: { requests_per_minute: 1 } }));
    both.upstream.answerWith(answer(200, '{}'));
    const json = ['Content-Type', 'application/json'] as const;
    const responses = await answersTo(both, [
      { body: '{' },
      { body: '{"model":"o1"}' },
      { body: ' '.repeat(1001) },
      `${uploadHead(both.daemon.port, 'Transfer-Encoding: chunked')}${chunked('x'.repeat(1001)).toString()}`,
      { headers: [['Content-Encoding', 'gzip']] },
      { headers: [json, ['Expect', '100-continue'], ['Content-Encoding', 'br']] },
      { headers: [json], body: '{"model":"gpt-5"}' },
      { headers: [json], body: '{"model":"gpt-5"}' },
    ]);
    expect(responses.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400, 400, 200, 429]);
    expectRecorded(responses);
  });

  test('to what the daemon answers itself', async () => {
    const both = await start('--http-health', '--http-shutdown');
    const responses = await answersTo(both, [{ method: 'GET', target: '/health' }, { method: 'GET', target: '/shutdown' }]);
    expect(responses.map(({ status }) => status)).toEqual([200, 200]);
    expectRecorded(responses);
  });

  test('to all that an upstream can say', async () => {
    const both = await start();
    const responses: RawResponse[] = [];
    for (const [what, raw] of upstreamAnswers) {
      both.upstream.answerWith(raw);
      const answers = await answersTo(both, [{}, { version: 'HTTP/1.0' }, { headers: [['Expect', '100-continue']] }]);
      expect(answers.map(({ status }) => status >= 500), what).toEqual(Array(3).fill(what.endsWith('502')));
      responses.push(...answers);
    }
    expectRecorded(responses);
  });

  test.each([
    ['hangs up', { answer: ({ connection }) => connection.reset() }, [], 502],
    ['is another one', { tls: 'wrongHost' }, [], 502],
    ['is silent', {}, ['--response-timeout', '0.2'], 504],
  ] satisfies ReadonlyArray<[string, UpstreamOptions, string[], number]>)('where the upstream %s', async (_, upstream, args, status) => {
    const responses = await answersTo(await startBoth({ upstream, args: ['--audit-log', file, ...args] }), [{}]);
    expect(responses.map((response) => response.status)).toEqual([status]);
    expectRecorded(responses);
  });

  test('an answer that comes before the end of the upload, and 400 for an upload that breaks', async () => {
    const both = await start();
    const early = await connect(both.daemon.port);
    await early.send(`${uploadHead(both.daemon.port, 'Content-Length: 1000000')}{`);
    await (await both.nextRequest()).reply(answer(413, '{}'));
    const tooLarge = await early.response();
    const broken = await connect(both.daemon.port);
    await broken.send(`${uploadHead(both.daemon.port, 'Transfer-Encoding: chunked')}5\r\nhello\r\n`);
    await (await both.nextRequest()).bodyReaches(5);
    await broken.send('nonsense\r\n');
    const bad = await broken.response();
    expect([tooLarge.status, bad.status]).toEqual([413, 400]);
    expectRecorded([tooLarge, bad]);
  });

  test('answers on one connection, some of them refusals, the last one to a request that breaks', async () => {
    const both = await start('--http-health', ...policyArgs({ models: ['gpt-*'] }));
    const { port } = both.daemon;
    both.startOver(answer(200, 'served'));
    const json = ['Content-Type', 'application/json'] as const;
    const client = await connect(port);
    const responses: RawResponse[] = [];
    for (const request of [
      rawRequest(port, { headers: [json], body: '{"model":"gpt-5"}' }),
      rawRequest(port, { method: 'GET', target: '/v1/models' }),
      rawRequest(port, { headers: [json], body: '{"model":"o1"}' }),
      rawRequest(port, { headers: [['Content-Encoding', 'gzip']], body: 'not JSON' }),
      rawRequest(port, { method: 'GET', target: '/health' }),
      rawRequest(port, { headers: [json], body: '{"model":"gpt-5"}' }),
      `${uploadHead(port, 'Transfer-Encoding: chunked')}5\r\nhello\r\nnonsense\r\n`,
    ]) {
      await client.send(request);
      responses.push(await client.response());
    }
    expect(responses.map(({ status }) => status)).toEqual([200, 403, 400, 400, 200, 200, 400]);
    expectRecorded(responses);
    expect(both.upstream.requests).toHaveLength(2);
  });

  test('503 while the daemon stops', async () => {
    const both = await start();
    const kept = await connect(both.daemon.port);
    await kept.send(rawRequest(both.daemon.port, { target: '/' }));
    const first = await kept.response();
    const { client, request } = await asking(both);
    both.daemon.signal('SIGTERM');
    await expect.poll(() => connect(both.daemon.port).then(() => false, () => true)).toBe(true);
    await kept.send(rawRequest(both.daemon.port));
    const refused = await kept.response();
    await request.reply(`${streamHead()}${chunk('x').toString()}0\r\n\r\n`);
    const last = await client.response();
    expect([refused.status, last.status]).toEqual([503, 200]);
    expectRecorded([first, refused, last]);
  });
});
