import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeBulk } from '../support/bulk.ts';
import { chunk, chunked } from '../support/http-bytes.ts';
import { mebibyte } from '../support/process-facts.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { connect, parseResponses, rawRequest, type RawClient } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

// One request at a time. What begins before the answer is whole is not acted on: the connection closes behind that answer
// (RFC 9112 section 9.3.2), so that a client which pipelines all the same knows what was not served.

let both: Proxied;

beforeAll(async () => {
  both = await startBoth({ args: ['--http-shutdown', '--http-health'] });
});

beforeEach(() => both.startOver());

const get = (target: string): Buffer => rawRequest(both.daemon.port, { method: 'GET', target });

const others: Record<string, () => string | Buffer> = {
  'a request': () => both.rawRequest({ body: 'never' }),
  'a request in chunks': () => `${both.uploadHead('Transfer-Encoding: chunked')}${chunked('never').toString()}`,
  'the beginning of a large one': () => `${both.uploadHead('Content-Length: 100000')}never`,
  'one that waits for 100 (Continue)': () => both.uploadHead('Expect: 100-continue\r\nContent-Length: 5'),
  'one that would be refused': () => get('/v1/models'),
  'one that would be refused, with an expectation': () => both.uploadHead('Expect: magic\r\nContent-Length: 5'),
  'one that would be answered here': () => get('/health'),
  'one that would stop the daemon': () => get('/shutdown'),
  'one that asks for an Upgrade': () => rawRequest(both.daemon.port, { headers: [['Connection', 'Upgrade'], ['Upgrade', 'h2c']] }),
  'one that breaks in its body': () => `${both.uploadHead('Transfer-Encoding: chunked')}5\r\nnever\r\nnonsense\r\n`,
  'a head that is too large': () => rawRequest(both.daemon.port, { headers: [['X', 'x'.repeat(100_000)]] }),
  'nonsense': () => 'nonsense\r\n\r\n',
  'a hundred requests': () => Buffer.concat(Array.from({ length: 100 }, () => both.rawRequest({ body: 'never' }))),
};

/** The daemon has read what was sent to it before, for it has served another client since. */
async function readByDaemon(): Promise<void> {
  expect((await both.ask({ method: 'GET', target: '/v1/other' })).status).toBe(403);
}

/** All that came on a connection is one whole answer, then a FIN. */
async function expectAnswerAndEnd(client: RawClient, text: string): Promise<void> {
  expect(await client.waitForClose()).toBe('end');
  const responses = parseResponses(client.received, true);
  expect(responses.map((response) => [response.text(), response.complete, response.interim])).toEqual([[text, true, []]]);
}

describe.for(Object.entries(others))('%s behind a running request', ([, other]) => {
  test('in the same packet: the answer says that it is the last, and nothing else is acted on', async () => {
    const before = both.upstream.requests.length;
    const client = await connect(both.daemon.port);
    await client.send(Buffer.concat([both.rawRequest({ body: 'first' }), Buffer.from(other())]));
    const request = await (await both.nextRequest()).complete();
    await readByDaemon();
    await request.reply(answer(200, 'whole'));
    await expectAnswerAndEnd(client, 'whole');
    expect(parseResponses(client.received, true)[0]?.values('connection')).toEqual(['close']);
    expect(both.upstream.requests).toHaveLength(before + 1);
    expect(both.daemon.exit).toBe(undefined);
  });

  test('after the head of the answer: the rest of it arrives, and nothing else is acted on', async () => {
    const before = both.upstream.requests.length;
    const { client, request } = await asking(both);
    await request.reply(`${streamHead()}${chunk('one,').toString()}`);
    await client.waitFor('one,');
    await client.send(other());
    await readByDaemon();
    await request.reply(chunk('two,'));
    await client.waitFor('two,');
    await request.reply(Buffer.concat([chunk('three'), Buffer.from('0\r\n\r\n')]));
    await expectAnswerAndEnd(client, 'one,two,three');
    expect(both.upstream.requests).toHaveLength(before + 1);
    expect(both.daemon.exit).toBe(undefined);
  });

  test('a client that leaves is noticed', async () => {
    const { client, request } = await asking(both);
    await client.send(other());
    await readByDaemon();
    client.close();
    await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
  });

  test('a client that closes its sending side is noticed', async () => {
    const { client, request } = await asking(both);
    await client.send(other());
    client.halfClose();
    await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
    expect(await client.waitForClose()).not.toBe('local');
    expect(client.text).toBe('');
  });

  test('an answer that fails in its body does not look whole', async () => {
    const { client, request } = await asking(both);
    await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n12345');
    await client.waitFor('12345');
    await client.send(other());
    await readByDaemon();
    request.connection.reset();
    expect(await client.wasReset()).toBe(true);
    expect(client.text).toMatch(/12345$/);
  });
});

test('what a client goes on sending is read, so that it gets all of its last answer and a FIN, no reset', async () => {
  const { client, request } = await asking(both);
  await client.send(both.rawRequest());
  client.pause();
  const length = 16 * mebibyte;
  const replied = request.reply(answer(200, Buffer.alloc(length, 'a')));
  await writeBulk(client.socket, length);
  client.resume();
  await client.waitForBytes(length);
  const response = await client.response();
  expect([response.complete, response.body.length]).toEqual([true, length]);
  expect(await client.waitForClose()).toBe('end');
  await replied;
});

test('a client that reads its last answer late, and sends before that, loses nothing of it', async () => {
  const { client, request } = await asking(both);
  client.pause();
  await client.send(both.rawRequest());
  await readByDaemon();
  await request.reply(answer(200, Buffer.alloc(100_000, 'a')));
  await client.send(Buffer.alloc(100_000, 'x'));
  await readByDaemon();
  client.resume();
  await expectAnswerAndEnd(client, 'a'.repeat(100_000));
});

test('a client that does not close its side is disconnected a little later', async () => {
  const { client, request } = await asking(both);
  await client.send(both.rawRequest());
  await readByDaemon();
  await request.reply(answer(200, 'whole'));
  await expectAnswerAndEnd(client, 'whole');
  const failed = new Promise<void>((resolve) => client.socket.once('error', () => resolve()));
  const sending = setInterval(() => void client.send('x'), 50);
  await failed.finally(() => clearInterval(sending));
});

// The daemon may learn that an answer is out after its client has read it.
test('a request behind an answer that is whole is served, in the same packet too', async () => {
  both.startOver(answer(200, 'served'));
  const client = await connect(both.daemon.port);
  for (let round = 0; round < 10; round++) {
    await client.send(Buffer.concat([get('/v1/models'), both.rawRequest()]));
    expect((await client.responses(2)).map(({ status }) => status)).toEqual([403, 200]);
  }
});
