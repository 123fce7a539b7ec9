import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { passages } from '../support/endpoints.ts';
import { chunk } from '../support/http-bytes.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';
import { streamHead } from '../support/upstream.ts';

/** Linux delays an acknowledgement by at least this much. */
const delayedAckMs = 40;

describe.for(passages)('$name', (endpoint) => {
  let both: Proxied;

  beforeAll(async () => {
    both = await startBoth({ endpoint });
  });

  beforeEach(() => both.startOver());

  test('the head reaches the client before any of the body exists', async () => {
    const { client, request } = await asking(both);
    await request.reply(streamHead(200, [['x-request-id', 'req_1']]));
    await client.waitFor(/\r\nx-request-id: req_1\r\n[^]*\r\n\r\n$/);
    await request.reply(Buffer.concat([chunk('late'), Buffer.from('0\r\n\r\n')]));
    expect((await client.response()).text()).toBe('late');
  });

  test('also if the length of the body is known', async () => {
    const { client, request } = await asking(both);
    await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n');
    await client.waitFor(/\r\n\r\n$/);
    await request.reply('la');
    await client.waitFor(/\r\n\r\nla$/);
    await request.reply('te');
    expect((await client.response()).text()).toBe('late');
  });

  test('each event arrives before the next one is sent, however small', async () => {
    const { client, request } = await asking(both);
    await request.reply(streamHead());
    const events = [...Array.from({ length: 100 }, (_, count) => `data: ${count}\n\n`), ...endpoint.events];
    for (const event of events) {
      await request.reply(chunk(event));
      await client.waitFor(event);
    }
    await request.reply('0\r\n\r\n');
    expect((await client.response()).text()).toBe(events.join(''));
  });

  test('one byte at a time passes one byte at a time', async () => {
    const { client, request } = await asking(both);
    await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n');
    await client.waitFor('\r\n\r\n');
    const headLength = client.received.length;
    for (let count = 1; count <= 64; count++) {
      await request.reply('.');
      await client.waitForBytes(headLength + count);
    }
    expect((await client.response()).complete).toBe(true);
  });

  test('two small writes in a row do not wait for each other, in either direction: TCP_NODELAY', async () => {
    const client = await connect(both.daemon.port);
    await client.send(both.uploadHead('Transfer-Encoding: chunked'));
    await client.send(chunk('begin'));
    const request = await both.nextRequest();
    await request.bodyReaches('begin'.length);
    await request.reply(streamHead());
    await client.waitFor('\r\n\r\n');
    const timesUp: number[] = [];
    const timesDown: number[] = [];
    // Both ends speak by turns: only then does the kernel delay its acknowledgements, for which Nagle's algorithm would wait.
    for (let round = 1; round <= 40; round++) {
      let before = performance.now();
      await client.send(chunk('1'));
      await new Promise((resolve) => setImmediate(resolve));
      await client.send(chunk('2'));
      await request.bodyReaches('begin'.length + 2 * round);
      timesUp.push(performance.now() - before);
      before = performance.now();
      await request.reply(chunk(`first ${round};`));
      await new Promise((resolve) => setImmediate(resolve));
      await request.reply(chunk(`second ${round};`));
      await client.waitFor(`second ${round};`);
      timesDown.push(performance.now() - before);
    }
    // On a busy machine some rounds are slow; with Nagle's algorithm all of them are.
    expect(Math.min(...timesUp)).toBeLessThan(delayedAckMs / 2);
    expect(Math.min(...timesDown)).toBeLessThan(delayedAckMs / 2);
  });

  test.for([['chunked', 'Transfer-Encoding: chunked'], ['with a length', 'Content-Length: 1200']] as const)('an upload %s passes piece by piece', async ([kind, framing]) => {
    const client = await connect(both.daemon.port);
    const frame = kind === 'chunked' ? chunk : (piece: string): Buffer => Buffer.from(piece);
    await client.send(both.uploadHead(framing));
    await client.send(frame('p'.repeat(20)));
    const request = await both.nextRequest();
    for (let sent = 20; sent < 1_180; sent += 20) {
      await client.send(frame('p'.repeat(20)));
      await request.bodyReaches(sent + 20);
    }
    expect(request.isComplete).toBe(false);
    await client.send(frame('p'.repeat(20)));
    if (kind === 'chunked') await client.send('0\r\n\r\n');
    await request.complete();
    expect(request.bodyLength).toBe(1_200);
    await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    expect((await client.response()).status).toBe(200);
  });

  test('the response may begin before the upload has ended', async () => {
    const client = await connect(both.daemon.port);
    await client.send(both.uploadHead('Content-Length: 6'));
    await client.send('ab');
    const request = await both.nextRequest();
    await request.bodyReaches(2);
    await request.reply(streamHead());
    await request.reply(chunk('one,'));
    await client.waitFor('one,');
    await client.send('cd');
    await request.bodyReaches(4);
    await request.reply(chunk('two,'));
    await client.waitFor('two,');
    await client.send('ef');
    await request.complete();
    await request.reply(Buffer.concat([chunk('three'), Buffer.from('0\r\n\r\n')]));
    const response = await client.response();
    expect(response.complete).toBe(true);
    expect(response.text()).toBe('one,two,three');
    expect(request.body.toString()).toBe('abcdef');
  });
});
