import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { chunk, chunked } from '../support/http-bytes.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, streamHead, type Upstream } from '../support/upstream.ts';

// A daemon that searched responses for the key would show by its behaviour whether it was there. So it must not search.

let upstream: Upstream;
let daemon: Daemon;
let key: string;

beforeAll(async () => {
  upstream = await startUpstream();
  daemon = await startDaemon({ args: upstream.args });
  ({ key } = daemon);
});

describe('a response that holds the key passes unchanged, in', () => {
  test('a header, its name and the reason phrase', async () => {
    upstream.answerWith(`HTTP/1.1 401 Bad key ${key}\r\nx-echo: Bearer ${key}\r\nx-${key}: value\r\ncontent-length: 2\r\n\r\n{}`);
    const response = await ask(daemon.port);
    expect(response.statusLine).toBe(`HTTP/1.1 401 Bad key ${key}`);
    expect(response.values('x-echo')).toEqual([`Bearer ${key}`]);
    expect(response.values(`x-${key}`)).toEqual(['value']);
  });

  test.for([
    ['a body of a known length', (text: string) => answer(401, text)],
    ['chunks', (text: string) => Buffer.from(`${streamHead()}${chunked(text).toString('latin1')}`, 'latin1')],
  ] as const)('%s', async ([, answering]) => {
    for (const text of [key, `${key}${key}`, `Incorrect API key provided: ${key}.`, key.slice(0, -1), key.slice(1)]) {
      upstream.answerWith(answering(text));
      expect((await ask(daemon.port)).text()).toBe(text);
    }
  });

  test('a compressed body', async () => {
    const body = gzipSync(`{"key":"${key}"}`);
    upstream.answerWith(answer(200, body, [['content-encoding', 'gzip']]));
    const response = await ask(daemon.port, { headers: [['Accept-Encoding', 'gzip']] });
    expect(response.values('content-encoding')).toEqual(['gzip']);
    expect(response.body.equals(body)).toBe(true);
  });
});

test('each piece arrives before the next is sent, wherever it ends', async () => {
  upstream.answerWith(() => undefined);
  const client = await connect(daemon.port);
  const before = upstream.requests.length;
  await client.send(rawRequest(daemon.port));
  await upstream.until(() => upstream.requests.length > before, 'the request');
  const request = upstream.requests[before];
  await request?.reply(streamHead());
  for (let length = 1; length <= key.length; length++) {
    await request?.reply(chunk(`${length}:${key.slice(0, length)}`));
    await client.waitFor(`${length}:${key.slice(0, length)}\r\n`);
  }
  await request?.reply('0\r\n\r\n');
  const response = await client.response();
  expect(response.chunkSizes.filter((size) => size > 0)).toHaveLength(key.length);
});

test('nothing is said of it', async () => {
  const other = await startDaemon({ args: upstream.args });
  upstream.answerWith(answer(401, other.key, [['x-echo', other.key]]));
  expect((await ask(other.port)).status).toBe(401);
  const exit = await other.stop();
  expect(exit.stderr.split('\n').filter((line) => /key.*(back|mask)/.test(line))).toEqual([]);
  expectNoPieceOf(other.key, exit.stderr);
});

test('something that is not HTTP is still an error of ours, without the key', async () => {
  for (const raw of [`${key}\r\n\r\n`, `HTTP/1.1 200 OK\r\nx y${key}: ${key}\r\n\r\n`, `HTTP/1.1 200 OK\r\ncontent-length: ${key}\r\n\r\n`, `HTTP/1.1 ${key} OK\r\n\r\n`]) {
    upstream.answerWith((request) => {
      void request.reply(raw).then(() => request.connection.halfClose());
    });
    const response = await ask(daemon.port);
    expect(response.status).toBe(502);
    expectNoPieceOf(key, `${response.rawHead}${response.text()}`);
  }
});
