import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { envelopeOf } from '../support/envelope.ts';
import { expectNoStack } from '../support/messages.ts';
import { mebibyte, memoryOf } from '../support/process-facts.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { ask } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

const head = 'HTTP/1.1 200 OK\r\n';

const garbage: ReadonlyArray<readonly [string, string]> = [
  ['a banner', 'SSH-2.0-OpenSSH_9.6\r\n'],
  ['HTML', '<html><body>502 Bad Gateway</body></html>\r\n\r\n'],
  ['bytes', '\x00\xff\xfe\x80\r\n\r\n'],
  ['HTTP/2', '\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80'],
  ['HTTP/0.9', 'hello\n'],
  ['a version that does not exist', 'HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n'],
  ['a request', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n'],
  ['a status of four digits', 'HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n'],
  ['status 000', 'HTTP/1.1 000 Zero\r\ncontent-length: 0\r\n\r\n'],
  ['status 099', 'HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n'],
  ['a negative status', 'HTTP/1.1 -20 OK\r\ncontent-length: 0\r\n\r\n'],
  ['a header without a colon', `${head}no colon here\r\n\r\n`],
  ['a header without a name', `${head}: value\r\n\r\n`],
  ['a space before the colon', `${head}content-length : 5\r\n\r\nhello`],
  ['NUL in a header', `${head}x-a: 1\x002\r\ncontent-length: 0\r\n\r\n`],
  ['a control character in a header', `${head}x-a: 1\x012\r\ncontent-length: 0\r\n\r\n`],
  ['lone CRs for the end of the status line', 'HTTP/1.1 200 OK\r\rContent-Length: 4\r\n\r\nfour'],
  ['a lone CR in the reason phrase', 'HTTP/1.1 200 O\rK\r\ncontent-length: 4\r\n\r\nfour'],
  ['a lone CR in a header', `${head}x-a: 1\rx-b: 2\r\ncontent-length: 0\r\n\r\n`],
  ['two lengths', `${head}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!`],
  ['a list of lengths', `${head}content-length: 5, 6\r\n\r\nhello!`],
  ['a negative length', `${head}content-length: -5\r\n\r\nhello`],
  ['a length in hexadecimal', `${head}content-length: 0x5\r\n\r\nhello`],
  ['a length with a sign', `${head}content-length: +5\r\n\r\nhello`],
  ['a length that no number holds', `${head}content-length: 99999999999999999999999\r\n\r\nhello`],
  ['length and chunks', `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['a transfer coding under the chunks, which was not asked for', `${head}transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`],
  ['a transfer coding that is not chunked', `${head}transfer-encoding: gzip\r\nconnection: close\r\n\r\nhello`],
  ['chunked twice', `${head}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['a head of more than 64 KiB in one line', `${head}x-bomb: ${'b'.repeat(80_000)}\r\ncontent-length: 0\r\n\r\n`],
  ['a head of more than 64 KiB in many lines', `${head}${'x-bomb: b\r\n'.repeat(10_000)}content-length: 0\r\n\r\n`],
];

test.for(garbage)('%s: 502 upstream_protocol, and a fresh connection for the next', async ([, raw]) => {
  const { client, request } = await asking(both);
  const told = both.daemon.stderr.length;
  await request.reply(raw);
  const response = await client.response();
  expect(response.status).toBe(502);
  expect(envelopeOf(response).code).toBe('upstream_protocol');
  const line = await both.daemon.waitForStderr(new RegExp(`^[^]{${told}}([^\n]*)\n`));
  expect(line[1]).toContain(`localhost:${both.upstream.port}`);
  expectNoStack(line[1] ?? '');
  expect(await request.connection.closed()).not.toBe('local');
  both.upstream.answerWith(answer(200, 'next'));
  expect((await ask(both.daemon.port)).text()).toBe('next');
});

describe('garbage instead of chunks: the response is cut', () => {
  test.for([
    ['no number', 'xyz\r\n'],
    ['a negative number', '-5\r\nhello\r\n'],
    ['a number that no number holds', 'fffffffffffffffff\r\nhello\r\n'],
    ['data longer than said', '2\r\nhello\r\n'],
    ['a line end missing', '5\r\nhello0\r\n\r\n'],
    ['a space in the number', '5 5\r\nhello\r\n'],
    ['a bare line feed', '5\nhello\n0\n\n'],
    ['0x', '0x5\r\nhello\r\n'],
    ['NUL', '5\0\r\nhello\r\n'],
  ] as const)('%s', async ([, raw]) => {
    const { client, request } = await asking(both);
    await request.reply(streamHead());
    await request.reply('5\r\nfirst\r\n');
    await client.waitFor('first');
    await request.reply(raw);
    expect(await client.waitForClose()).not.toBe('local');
    const response = await client.response();
    expect(response.complete).toBe(false);
    expect(await request.connection.closed()).not.toBe('local');
  });

  test('trailers without end', async () => {
    const { client, request } = await asking(both);
    await request.reply(`${streamHead()}5\r\nfirst\r\n0\r\n`);
    for (let count = 0; count < 200 && request.connection.ending === undefined; count++) await request.reply('x-trailer: bomb\r\n'.repeat(100));
    expect(await client.waitForClose()).not.toBe('local');
    expect((await client.response()).complete).toBe(false);
  });
});

test('a head without end costs no memory', async () => {
  for (let count = 0; count < 5; count++) expect((await asking(both)).client.ending).toBe(undefined);
  const before = memoryOf(both.daemon.pid).now;
  const { client, request } = await asking(both);
  await request.reply(head);
  const line = `x-bomb: ${'b'.repeat(1_000)}\r\n`.repeat(60);
  for (let sent = 0; sent < 64 * mebibyte && request.connection.ending === undefined; sent += line.length) await request.reply(line);
  expect((await client.response()).status).toBe(502);
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(64 * mebibyte);
});

test('interim answers without end are not passed, cost no memory, and end with the client', async () => {
  const before = memoryOf(both.daemon.pid).now;
  const { client, request } = await asking(both);
  const interim = 'HTTP/1.1 102 Processing\r\nx-a: 1\r\n\r\n'.repeat(1_000);
  for (let sent = 0; sent < 8 * mebibyte && request.connection.ending === undefined; sent += interim.length) await request.reply(interim);
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(64 * mebibyte);
  client.close();
  expect(await request.connection.closed()).not.toBe('local');
});
