import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { passages } from '../support/endpoints.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { expectNoStack } from '../support/messages.ts';
import { asking, startBoth, type Proxied } from '../support/proxied.ts';
import { connect } from '../support/raw-client.ts';
import { answer, type UpstreamConnection } from '../support/upstream.ts';

describe.for(passages)('$name', (endpoint) => {
  let both: Proxied;

  beforeAll(async () => {
    both = await startBoth({ endpoint });
  });

  beforeEach(() => both.startOver());

  type Cut = readonly [string, (connection: UpstreamConnection) => void];

  const cuts: readonly Cut[] = [
    ['FIN', (connection) => connection.close()],
    ['close_notify and FIN', (connection) => connection.halfClose()],
    ['RST', (connection) => connection.reset()],
  ];

  const head = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n';
  const chunkedHead = `${head}transfer-encoding: chunked\r\n\r\n`;

  /** What the upstream has sent before it ends. */
  const beforeTheBody: ReadonlyArray<readonly [string, string]> = [
    ['before the head', ''],
    ['within the status line', 'HTTP/1.1 2'],
    ['within a header', `${head}x-request`],
    ['before the empty line', head],
    ['after an interim answer', 'HTTP/1.1 102 Processing\r\n\r\n'],
  ];

  const withinTheBody: ReadonlyArray<readonly [string, string, string]> = [
    ['length, before its first byte', `${head}content-length: 100\r\n\r\n`, ''],
    ['length, in the middle', `${head}content-length: 100\r\n\r\n0123456789`, '0123456789'],
    ['length, one byte short', `${head}content-length: 11\r\n\r\n0123456789`, '0123456789'],
    ['length and Connection: close, in the middle', `${head}connection: close\r\ncontent-length: 100\r\n\r\n0123456789`, '0123456789'],
    ['chunked, before the first chunk', chunkedHead, ''],
    ['chunked, between chunks', `${chunkedHead}a\r\n0123456789\r\n`, '0123456789'],
    ['chunked and Connection: close, between chunks', `${head}connection: close\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n`, '0123456789'],
    ['chunked, within a chunk\'s size', `${chunkedHead}a\r\n0123456789\r\n1`, '0123456789'],
    ['chunked, after a chunk\'s size', `${chunkedHead}a\r\n0123456789\r\n1f\r\n`, '0123456789'],
    ['chunked, within a chunk', `${chunkedHead}14\r\n0123456789`, '0123456789'],
    ['chunked, before a chunk\'s line end', `${chunkedHead}a\r\n0123456789`, '0123456789'],
    ['chunked, after the last chunk\'s size', `${chunkedHead}a\r\n0123456789\r\n0\r\n`, '0123456789'],
    ['chunked, within a trailer', `${chunkedHead}a\r\n0123456789\r\n0\r\nx-trailer: 1\r\n`, '0123456789'],
  ];

  describe.for(cuts)('an upstream that ends with %s', ([, cut]) => {
    test.for(beforeTheBody)('%s: the client gets 502 and its connection stays', async ([, sent]) => {
      const { client, request } = await asking(both);
      const told = both.daemon.stderr.length;
      await request.reply(sent);
      cut(request.connection);
      const response = await client.response();
      expect(response.status).toBe(502);
      expect(envelopeOf(response).code).toMatch(sent === '' ? /^upstream_unreachable$/ : /^upstream_(unreachable|protocol)$/);
      const line = await both.daemon.waitForStderr(new RegExp(`^[^]{${told}}(.*localhost:${both.upstream.port}.*)\n`));
      expectNoStack(line[0]);
      both.upstream.answerWith(answer(200, 'again'));
      await client.send(both.rawRequest());
      expect((await client.response()).text()).toBe('again');
      await both.nextRequest();
      both.upstream.answerWith(() => {});
    });

    test.for(withinTheBody)('%s: the client\'s answer breaks too', async ([name, sent, body]) => {
      const { client, request } = await asking(both);
      await request.reply(sent);
      if (body !== '') await client.waitFor(body);
      cut(request.connection);
      // Many clients take a FIN within a length for the end of the body.
      expect(await client.wasReset()).toBe(name.startsWith('length'));
      const response = await client.response();
      expect(response.status).toBe(200);
      expect(response.text()).toBe(body);
      expect(response.complete).toBe(false);
      await both.daemon.waitForStderr(new RegExp(`cut: .*localhost:${both.upstream.port}`));
    });

    test('after any of its events, the last one too, but before the last chunk: the client\'s stream breaks', async () => {
      const { events } = endpoint;
      for (let count = 1; count <= events.length; count++) {
        const { client, request } = await asking(both);
        const sent = events.slice(0, count);
        await request.reply(Buffer.concat([Buffer.from(chunkedHead), ...sent.map(chunk)]));
        await client.waitFor(sent.at(-1) ?? '');
        cut(request.connection);
        expect(await client.waitForClose()).not.toBe('local');
        const response = await client.response();
        expect(response.text()).toBe(sent.join(''));
        expect(response.complete, `after ${count} of ${events.length} events`).toBe(false);
      }
    });

    test('in the middle of much that the client has not read: it reads what came, then the break', async () => {
      const { client, request } = await asking(both);
      client.pause();
      const body = Buffer.alloc(200_000, 'x');
      await request.reply(`${head}content-length: 400000\r\n\r\n`);
      await request.reply(body);
      cut(request.connection);
      await both.daemon.waitForStderr(/cut: [^]*/);
      client.resume();
      expect(await client.wasReset()).toBe(true);
      const response = await client.response();
      expect(response.complete).toBe(false);
      // The upstream's own reset may overtake what it sent, ours waits.
      if (cut === cuts[1]?.[1]) expect(response.body.length).toBe(body.length);
    });

    test('is no reason to send the request again', async () => {
      const before = both.upstream.requests.length;
      both.upstream.answerWith((request) => cut(request.connection));
      for (let count = 0; count < 10; count++) expect((await both.ask()).status).toBe(502);
      both.upstream.answerWith(() => {});
      expect(both.upstream.requests).toHaveLength(before + 10);
      for (let count = 0; count < 10; count++) await both.nextRequest();
    });
  });

  describe('a response delimited by the end of the connection', () => {
    const untilClose = `${head}connection: close\r\n\r\n`;

    test('is whole when the upstream ends in good order', async () => {
      const { client, request } = await asking(both);
      await request.reply(`${untilClose}0123456789`);
      await client.waitFor('0123456789');
      request.connection.halfClose();
      const response = await client.response();
      expect(response.text()).toBe('0123456789');
      expect(response.complete).toBe(true);
    });

    test('is broken when the upstream resets', async () => {
      const { client, request } = await asking(both);
      await request.reply(`${untilClose}0123456789`);
      await client.waitFor('0123456789');
      request.connection.reset();
      expect(await client.waitForClose()).not.toBe('local');
      expect((await client.response()).complete).toBe(false);
    });

    test('from HTTP/1.0, is whole when the upstream ends in good order', async () => {
      const { client, request } = await asking(both);
      await request.reply('HTTP/1.0 200 OK\r\n\r\n0123456789');
      await client.waitFor('0123456789');
      request.connection.halfClose();
      const response = await client.response();
      expect(response.text()).toBe('0123456789');
      expect(response.complete).toBe(true);
      expect(response.statusLine).toMatch(/^HTTP\/1\.1 /);
    });

    test('from HTTP/1.0, is broken when the upstream resets', async () => {
      const { client, request } = await asking(both);
      await request.reply('HTTP/1.0 200 OK\r\n\r\n0123456789');
      await client.waitFor('0123456789');
      request.connection.reset();
      expect(await client.waitForClose()).not.toBe('local');
      expect((await client.response()).complete).toBe(false);
    });
  });

  test('a client that is still uploading learns that the upstream has gone', async () => {
    const { daemon } = both;
    for (const [, cut] of cuts) {
      const client = await connect(daemon.port);
      await client.send(both.uploadHead('Transfer-Encoding: chunked'));
      await client.send(chunk('first'));
      const request = await both.nextRequest();
      await request.bodyReaches(5);
      cut(request.connection);
      const sending = (async () => {
        for (let count = 0; count < 200 && client.ending === undefined; count++) await client.send(chunk(Buffer.alloc(10_000, 'x')));
        await client.send('0\r\n\r\n');
      })();
      const response = await client.response();
      expect(response.status).toBe(502);
      expect(envelopeOf(response).code).toBe('upstream_unreachable');
      await sending;
    }
  });
});
