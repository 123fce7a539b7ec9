import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { chunk } from '../support/http-bytes.ts';
import { mebibyte } from '../support/process-facts.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { connect, rawRequest } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

// A client that closes its sending side has left, as far as the upstream's work goes. It may still read: what it gets must
// not look whole unless it is.

let both: Proxied;

beforeAll(async () => {
  both = await startBoth();
});

beforeEach(() => both.startOver());

const begun = 'HTTP/1.1 200 OK\r\n';

describe.for([
  ['a length', `${begun}content-length: 40\r\n\r\nabcde`, '1.1', true],
  ['a length, for HTTP/1.0', `${begun}content-length: 40\r\n\r\nabcde`, '1.0', true],
  ['neither length nor chunks, for HTTP/1.0', `${begun}\r\nabcde`, '1.0', true],
  ['chunks', `${streamHead()}${chunk('abcde').toString()}`, '1.1', false],
] as const)('while an answer with %s runs, a client that closes its sending side', ([, sent, version, endsByReset]) => {
  test('is told that it is cut, and the upstream is let go', async () => {
    const client = await connect(both.daemon.port);
    await client.send(rawRequest(both.daemon.port).toString('latin1').replace('HTTP/1.1', `HTTP/${version}`));
    const request = await both.nextRequest();
    await request.complete();
    await request.reply(sent);
    await client.waitFor('abcde');
    client.halfClose();
    expect(await client.waitForClose()).toBe(endsByReset ? 'ECONNRESET' : 'end');
    // Where nothing frames the answer, the reset alone tells.
    if (/content-length|chunked/.test(sent)) expect((await client.response()).complete).toBe(false);
    await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
  });
});

test('a client that closes its sending side and does not read: the upstream is let go all the same', async () => {
  const { client, request } = await asking(both);
  client.pause();
  void request.reply(answer(200, Buffer.alloc(32 * mebibyte, 'a')));
  both.startOver(answer(200, 'meanwhile'));
  for (let others = 0; others < 10; others++) await both.ask(); // until it is stuck
  client.halfClose();
  await both.upstream.until(() => request.connection.ending !== undefined, 'the daemon to let the upstream go');
});

test('an answer that is whole before its client closes its sending side arrives whole', async () => {
  const { client, request } = await asking(both);
  client.pause();
  await request.reply(answer(200, Buffer.alloc(mebibyte / 2, 'a')));
  // Its connection is free again once the daemon has it all.
  both.startOver(answer(200, 'next'));
  await both.ask();
  client.halfClose();
  client.resume();
  const response = await client.response();
  expect([response.status, response.complete, response.body.length]).toEqual([200, true, mebibyte / 2]);
});
