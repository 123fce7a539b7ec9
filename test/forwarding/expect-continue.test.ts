import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunked } from '../support/http-bytes.ts';
import { startBoth, type Proxied } from '../support/proxied.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer } from '../support/upstream.ts';

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

const expecting = (port: number, lines: string, target = '/v1/responses'): string =>
  `POST ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nExpect: 100-continue\r\n${lines}\r\n\r\n`;

test.for([['a length', 'Content-Length: 5', Buffer.from('hello')], ['chunks', 'Transfer-Encoding: chunked', chunked('hello')]] as const)('an admitted upload with %s is asked for its body here, and Expect stays here', async ([, framing, body]) => {
  const client = await connect(both.daemon.port);
  await client.send(expecting(both.daemon.port, framing));
  await client.waitFor(/^HTTP\/1\.1 100 Continue\r\n\r\n$/);
  await client.send(body);
  const request = await (await both.nextRequest()).complete();
  expect(request.values('expect')).toEqual([]);
  expect(request.body.toString()).toBe('hello');
  // The upstream's own 100 does not become a second one.
  await request.reply(answer(200, 'done'));
  const response = await client.response();
  expect(response.interim).toHaveLength(1);
  expect(response.text()).toBe('done');
});

test('any case of it is understood', async () => {
  const client = await connect(both.daemon.port);
  await client.send(expecting(both.daemon.port, 'Content-Length: 2').replace('100-continue', '100-Continue'));
  await client.waitFor('HTTP/1.1 100 Continue\r\n\r\n');
  await client.send('{}');
  const request = await both.nextRequest();
  await request.reply(answer(200, 'done'));
  expect((await client.response()).text()).toBe('done');
});

test('a client that does not wait for it is served as well', async () => {
  const client = await connect(both.daemon.port);
  await client.send(`${expecting(both.daemon.port, 'Content-Length: 5')}hello`);
  const request = await (await both.nextRequest()).complete();
  expect(request.body.toString()).toBe('hello');
  await request.reply(answer(200, 'done'));
  expect((await client.response()).text()).toBe('done');
});

test('what is refused is refused at once, without a 100', async () => {
  const refused = [
    expecting(both.daemon.port, 'Content-Length: 5', '/v1/files'),
    expecting(both.daemon.port, 'Content-Length: 5\r\nOrigin: https://evil.example'),
    expecting(both.daemon.port, 'Content-Length: 5').replace(`127.0.0.1:${both.daemon.port}`, 'evil.example'),
  ];
  for (const raw of refused) {
    const client = await connect(both.daemon.port);
    await client.send(raw);
    const response = await client.response();
    expect(response.interim).toEqual([]);
    expect(response.status).toBe(403);
    envelopeOf(response);
  }
});

test('without the daemon\'s token there is no 100 either', async () => {
  const file = join(scratchFolder(), 'token');
  writeFileSync(file, 'a-token-of-the-daemon', { mode: 0o600 });
  const daemon = await startDaemon({ args: [...both.upstream.args, '--client-token-file', file] });
  const client = await connect(daemon.port);
  await client.send(expecting(daemon.port, 'Content-Length: 5'));
  const response = await client.response();
  expect(response.status).toBe(401);
  expect(response.interim).toEqual([]);
});

test('a client that leaves instead of sending its body causes no request', async () => {
  const before = both.upstream.requests.length;
  const client = await connect(both.daemon.port);
  await client.send(expecting(both.daemon.port, 'Content-Length: 5'));
  await client.waitFor('100 Continue');
  client.close();
  const next = await connect(both.daemon.port);
  await next.send(rawRequest(both.daemon.port, { body: 'next' }));
  await both.upstream.until(() => both.upstream.requests.some(({ isComplete, body }) => isComplete && body.toString() === 'next'), 'the next request');
  expect(both.upstream.requests.slice(before).filter(({ isComplete }) => isComplete)).toHaveLength(1);
});
