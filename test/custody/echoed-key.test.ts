import { beforeAll, describe, expect, test } from 'vitest';
import { longestKey } from '../support/custody-load.ts';
import { randomKey, startDaemon, type Daemon } from '../support/daemon.ts';
import { chunk, chunked } from '../support/http-bytes.ts';
import { expectNoPieceOf } from '../support/messages.ts';
import { ask, connect, rawRequest, type RawResponse } from '../support/raw-client.ts';
import { answer, startUpstream, streamHead, type Answer, type Upstream } from '../support/upstream.ts';

/** What a byte of the key becomes is ours to choose, but not a piece of it, nor anything that breaks JSON or a header. */
const masked = /^[\x21\x23-\x5b\x5d-\x7e]+$/;

let upstream: Upstream;
let daemon: Daemon;
let key: string;

beforeAll(async () => {
  upstream = await startUpstream();
  daemon = await startDaemon({ args: upstream.args });
  ({ key } = daemon);
});

/** What the client gets when the upstream answers so. */
async function receive(raw: Answer): Promise<RawResponse> {
  upstream.answerWith(raw);
  return ask(daemon.port);
}

/** The bytes that came in the place of `secret` in `sent`; everything around them is as it was. */
function expectMasked(received: string, sent: string, secret = key): void {
  expectNoPieceOf(secret, received, Math.min(16, secret.length));
  expect(received).toHaveLength(sent.length);
  for (let at = sent.indexOf(secret), from = 0; ; at = sent.indexOf(secret, from)) {
    const plainEnd = at === -1 ? sent.length : at;
    expect(received.slice(from, plainEnd)).toBe(sent.slice(from, plainEnd));
    if (at === -1) return;
    expect(received.slice(at, at + secret.length)).toMatch(masked);
    from = at + secret.length;
  }
}

function warningsIn(text: string): number {
  return text.split('\n').filter((line) => /^responses-api-proxy: .*key.*mask/.test(line)).length;
}

describe('an upstream that sends the key back, in', () => {
  const json = (): string => JSON.stringify({ error: { message: `Incorrect API key provided: ${key}.` } });

  test('a header', async () => {
    const sent = `before Bearer ${key} after`;
    const response = await receive(answer(401, '{}', [['x-echo', sent], ['content-type', 'application/json']]));
    expect(response.status).toBe(401);
    expectMasked(response.values('x-echo')[0] ?? '', sent);
    expectNoPieceOf(key, response.rawHead, 16);
  });

  test('a header\'s name', async () => {
    const response = await receive(answer(200, '{}', [[`x-${key}`, 'value'], ['x-other', 'kept']]));
    expectNoPieceOf(key, response.rawHead, 16);
    expect(response.values('x-other')).toEqual(['kept']);
  });

  test('several headers, and twice in one', async () => {
    const response = await receive(answer(200, '{}', [['x-one', key], ['x-two', `${key}${key}`], ['set-cookie', `k=${key}`], ['www-authenticate', `Bearer realm="${key}"`]]));
    expectNoPieceOf(key, response.rawHead, 16);
    expectMasked(response.values('x-two')[0] ?? '', `${key}${key}`);
    expectMasked(response.values('www-authenticate')[0] ?? '', `Bearer realm="${key}"`);
  });

  test('the reason phrase', async () => {
    const response = await receive(`HTTP/1.1 401 Bad key ${key} sent\r\ncontent-length: 2\r\n\r\n{}`);
    expectMasked(response.statusLine, `HTTP/1.1 401 Bad key ${key} sent`);
  });

  test('a JSON body of a known length', async () => {
    const response = await receive(answer(401, json()));
    expect(response.values('content-length')).toEqual([String(json().length)]);
    expectMasked(response.text(), json());
    expect(response.json()).toMatchObject({ error: {} });
  });

  test('a chunked body', async () => {
    const response = await receive(`${streamHead()}${chunked(json()).toString('latin1')}`);
    expectMasked(response.text(), json());
  });

  test('a body that ends with the connection', async () => {
    const response = await receive((request) => {
      void request.reply(`HTTP/1.1 200 Fine\r\nconnection: close\r\n\r\n${json()}`).then(() => request.connection.halfClose());
    });
    expectMasked(response.text(), json());
  });

  test('server-sent events', async () => {
    const events = ['data: one\n\n', `data: {"key":"${key}"}\n\n`, 'data: three\n\n'];
    const response = await receive(`${streamHead()}${chunked(...events).toString('latin1')}`);
    expectMasked(response.text(), events.join(''));
  });

  test('a body twice, back to back', async () => {
    const response = await receive(answer(200, `${key}${key}-${key}`));
    expectMasked(response.text(), `${key}${key}-${key}`);
  });

  test('a body that is the key', async () => {
    const response = await receive(answer(200, key));
    expectMasked(response.text(), key);
  });

  test('trailers', async () => {
    const response = await receive(`${streamHead()}${chunked('data: one\n\n').toString('latin1').replace(/\r\n$/, '')}x-echo: ${key}\r\n\r\n`);
    expect(response.complete).toBe(true);
    expectNoPieceOf(key, response.trailers.join('\n'), 16);
  });

  test('the extension of a chunk', async () => {
    const response = await receive(`${streamHead()}4;x=${key}\r\nabcd\r\n0;y=${key}\r\n\r\n`);
    expect(response.text()).toBe('abcd');
  });

  test('an interim answer', async () => {
    upstream.answerWith(`HTTP/1.1 103 Early ${key}\r\nlink: <${key}>\r\n\r\nHTTP/1.1 200 Fine\r\ncontent-length: 2\r\n\r\n{}`);
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    expect((await client.response()).status).toBe(200);
    expectNoPieceOf(key, client.text, 16);
  });

  test('an answer that is then cut', async () => {
    const response = await receive((request) => {
      void request.reply(`${streamHead()}${chunk(`data: ${key}\n\n`).toString('latin1')}`).then(() => request.connection.close());
    });
    expect(response.complete).toBe(false);
    expectNoPieceOf(key, response.text(), 16);
  });

  test('an answer that is cut in the middle of it', async () => {
    const response = await receive((request) => {
      void request.reply(`${streamHead()}${chunk(`data: ${key.slice(0, -1)}`).toString('latin1')}`).then(() => request.connection.close());
    });
    expect(response.complete).toBe(false);
    expect(response.text()).not.toContain(key);
  });

  test('something that is not HTTP', async () => {
    for (const raw of [`${key}\r\n\r\n`, `HTTP/1.1 200 OK\r\nx y${key}: ${key}\r\n\r\n`, `HTTP/1.1 200 OK\r\ncontent-length: ${key}\r\n\r\n`, `HTTP/1.1 ${key} OK\r\n\r\n`]) {
      upstream.answerWith((request) => {
        void request.reply(raw).then(() => request.connection.halfClose());
      });
      const response = await ask(daemon.port);
      expect(response.status).toBe(502);
      expectNoPieceOf(key, `${response.rawHead}${response.text()}`);
    }
  });
});

describe('whole answers pass as they are when they hold', () => {
  test.for<[string, () => string]>([
    ['the key\'s beginning', () => key.slice(0, -1)],
    ['its end', () => key.slice(1)],
    ['its beginning again and again', () => key.slice(0, 20).repeat(50)],
    ['it in capitals', () => key.toUpperCase()],
    ['it backwards', () => [...key].reverse().join('')],
    ['asterisks', () => '*'.repeat(key.length)],
  ])('%s', async ([, text]) => {
    expect((await receive(answer(200, text()))).text()).toBe(text());
    expect((await receive(`${streamHead()}${chunked(...text()).toString('latin1')}`)).text()).toBe(text());
  });
});

describe('split across chunks', () => {
  /** The answer to a request whose pieces are written one by one, each only when the one before has been taken in or held back. */
  async function receivePieces(pieces: readonly string[]): Promise<RawResponse> {
    upstream.answerWith(() => undefined);
    const client = await connect(daemon.port);
    const before = upstream.requests.length;
    await client.send(rawRequest(daemon.port));
    await upstream.until(() => upstream.requests.length > before, 'the request');
    const request = upstream.requests[before];
    await request?.reply(streamHead());
    for (const piece of pieces) await request?.reply(chunk(piece));
    await request?.reply('0\r\n\r\n');
    const response = await client.response();
    client.close();
    return response;
  }

  test('at every offset', { timeout: 60_000 }, async () => {
    const text = `data: {"a":"${key}"}\n\n`;
    for (let offset = 1; offset < text.length; offset++) {
      expectMasked((await receivePieces([text.slice(0, offset), text.slice(offset)])).text(), text);
    }
  });

  test('byte by byte', async () => {
    const text = `data: ${key}\n\ndata: ${key.slice(0, 15)}\n\n`;
    expectMasked((await receivePieces([...text])).text(), text);
  });

  test('in pieces of every size', async () => {
    const text = `<${key}${key}>${key.slice(0, 10)}${key}`;
    for (let size = 2; size <= 2 * key.length; size += 7) {
      const pieces = text.match(new RegExp(`.{1,${size}}`, 'gs')) ?? [];
      expectMasked((await receivePieces(pieces)).text(), text);
    }
  });

  test('at the very end', async () => {
    const text = `x${key}`;
    for (const offset of [1, 2, key.length - 1, key.length]) {
      expectMasked((await receivePieces([text.slice(0, offset), text.slice(offset)])).text(), text);
    }
  });
});

describe('a key that begins again within itself', () => {
  // What could be the key's beginning is not always what looked like it first.
  const keys = ['abababac', 'aaaaaaab', 'aabaabaaab', 'sk-sk-sk-key', `${'xy'.repeat(40)}z`];
  test.for(keys)('%s', async (restless) => {
    const other = await startDaemon({ args: upstream.args, key: restless });
    const beginnings = [restless.slice(0, 1), restless.slice(0, 2), restless.slice(0, -1), restless.slice(0, -2), restless.slice(0, Math.ceil(restless.length / 2))];
    for (const beginning of beginnings) {
      const text = `${beginning}${restless}${beginning}`;
      const inBytes = `${streamHead()}${chunked(...text).toString('latin1')}`;
      for (const raw of [answer(200, text), inBytes]) {
        upstream.answerWith(raw);
        const response = await ask(other.port);
        expect(response.text()).toHaveLength(text.length);
        expect(response.text()).not.toContain(restless);
      }
    }
  });
});

test('the longest key there may be', async () => {
  const long = longestKey();
  const other = await startDaemon({ args: upstream.args, key: long });
  const text = `before ${long} after`;
  upstream.answerWith(answer(200, text, [['x-echo', long]]));
  const response = await ask(other.port);
  expectMasked(response.text(), text, long);
  expectNoPieceOf(long, response.rawHead, 16);
});

test('each answer that holds it is told on stderr, in one line', async () => {
  const other = await startDaemon({ args: upstream.args });
  upstream.answerWith(answer(401, other.key.repeat(3), [['x-echo', other.key], ['x-again', other.key]]));
  expect((await ask(other.port)).status).toBe(401);
  await other.waitForStderr(/key.*mask/);
  upstream.answerWith(answer(200, '{}'));
  expect((await ask(other.port)).status).toBe(200);
  const exit = await other.stop();
  expect(warningsIn(exit.stderr)).toBe(1);
  expectNoPieceOf(other.key, exit.stderr);
});

describe('it adds no delay:', () => {
  test('a piece that cannot be the key\'s beginning arrives before anything follows it', async () => {
    upstream.answerWith(() => undefined);
    const client = await connect(daemon.port);
    const before = upstream.requests.length;
    await client.send(rawRequest(daemon.port));
    await upstream.until(() => upstream.requests.length > before, 'the request');
    const request = upstream.requests[before];
    await request?.reply(streamHead());
    for (const piece of ['data: 1\n\n', key.slice(1), `${key.slice(0, -1)}!`, '{}'.repeat(500), `end-of-${randomKey()}.`]) {
      await request?.reply(chunk(`${piece}#`));
      await client.waitFor(`${piece}#`);
    }
    await request?.reply('0\r\n\r\n');
    expect((await client.response()).complete).toBe(true);
  });

  test('of a piece whose end could be, only that end waits, and only for the next piece', async () => {
    upstream.answerWith(() => undefined);
    const client = await connect(daemon.port);
    const before = upstream.requests.length;
    await client.send(rawRequest(daemon.port));
    await upstream.until(() => upstream.requests.length > before, 'the request');
    const request = upstream.requests[before];
    await request?.reply(streamHead());
    await request?.reply(chunk(`data: one ${key.slice(0, 12)}`));
    await client.waitFor('data: one ');
    await request?.reply(chunk('?'));
    await client.waitFor(`${key.slice(0, 12)}`);
    await client.waitFor('?');
    await request?.reply('0\r\n\r\n');
    expect((await client.response()).text()).toBe(`data: one ${key.slice(0, 12)}?`);
  });

  test('what waits arrives with the end, if nothing follows', async () => {
    const text = `data: one ${key.slice(0, 12)}`;
    expect((await receive(`${streamHead()}${chunked(text).toString('latin1')}`)).text()).toBe(text);
    expect((await receive(answer(200, text))).text()).toBe(text);
  });
});

test.for([
  [['Accept-Encoding', 'gzip, br, zstd']],
  [['accept_encoding', 'gzip']],
  [['ACCEPT_ENCODING', 'gzip'], ['Accept-Encoding', 'br'], ['accept-encoding', 'gzip;q=1']],
] as const)('the upstream is asked not to compress, for what is compressed cannot be searched: %j', async (headers) => {
  upstream.answerWith(answer(200, '{}'));
  const before = upstream.requests.length;
  const response = await ask(daemon.port, { headers });
  expect(response.status).toBe(200);
  expect(upstream.requests[before]?.values('accept-encoding')).toEqual(['identity']);
  expect(upstream.requests[before]?.values('accept_encoding')).toEqual([]);
});
