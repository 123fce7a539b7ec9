import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { responses } from '../support/endpoints.ts';
import { chunk } from '../support/http-bytes.ts';
import { establishedConnections, eventually, mebibyte, hasWaitingFin, pollMs } from '../support/process-facts.ts';
import { Proxied, asking, startBoth } from '../support/proxied.ts';
import { startRelay } from '../support/relay.ts';
import { connect, type RawClient } from '../support/raw-client.ts';
import { standstill } from '../support/standstill.ts';
import { answer, startUpstream, streamHead, type UpstreamConnection } from '../support/upstream.ts';
import { startDaemon } from '../support/daemon.ts';
import { caFile } from '../support/certificates.ts';

describe('the upstream hears of it', () => {
  const endpoint = responses;
  let both: Proxied;

  beforeAll(async () => {
    both = await startBoth({ endpoint });
  });

  beforeEach(() => both.startOver());

  const partings: ReadonlyArray<readonly [string, (client: RawClient) => void]> = [
    ['FIN', (client) => client.close()],
    ['RST', (client) => client.reset()],
  ];

  /** After `part`, the daemon ends the request's connection to the upstream. */
  async function expectCancelled(connection: UpstreamConnection, part: () => void): Promise<void> {
    expect(connection.ending).toBe(undefined);
    part();
    expect(await connection.closed()).not.toBe('local');
  }

  describe.for(partings)('a client that leaves with %s', ([, part]) => {
    test('before the response head: the upstream request is cancelled', async () => {
      const { client, request } = await asking(both);
      await expectCancelled(request.connection, () => part(client));
    });

    test('after an interim response', async () => {
      const { client, request } = await asking(both);
      await request.reply('HTTP/1.1 102 Processing\r\n\r\n');
      await expectCancelled(request.connection, () => part(client));
    });

    test('in the middle of a stream', async () => {
      const { client, request } = await asking(both);
      await request.reply(streamHead());
      const half = endpoint.events.slice(0, endpoint.events.length / 2);
      for (const event of half) await request.reply(chunk(event));
      await client.waitFor(half.at(-1) ?? '');
      await expectCancelled(request.connection, () => part(client));
    });

    test('in the middle of a response with a length', async () => {
      const { client, request } = await asking(both);
      await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n12345');
      await client.waitFor('12345');
      await expectCancelled(request.connection, () => part(client));
    });

    test.each([['head', 20], ['body', -1]] as const)('in the middle of the %s of its next request', async (_, end) => {
      const { client, request } = await asking(both);
      await client.send(both.rawRequest().subarray(0, end));
      await expectCancelled(request.connection, () => part(client));
      expect(client.text).toBe('');
    });

    test('while its response is stalled because it does not read', async () => {
      const { client, request } = await asking(both);
      client.pause();
      await request.reply(`HTTP/1.1 200 OK\r\ncontent-length: ${64 * mebibyte}\r\n\r\n`);
      let isTaken = false;
      void request.reply(Buffer.alloc(64 * mebibyte, 'x')).then(() => (isTaken = true));
      const upstreamPort = both.upstream.port;
      const daemonsPort = request.connection.tcp.remotePort;
      // Bytes that stay unread: the daemon has stopped reading from the upstream.
      await standstill(() => establishedConnections().find(({ local, remote }) => local === daemonsPort && remote === upstreamPort)?.unread ?? 0);
      expect(isTaken).toBe(false);
      await expectCancelled(request.connection, () => part(client));
    });

    test.for([['a length', 'Content-Length: 1000'], ['chunks', 'Transfer-Encoding: chunked']] as const)('in the middle of an upload with %s: it never becomes a whole request', async ([kind, framing]) => {
      const client = await connect(both.daemon.port);
      await client.send(both.uploadHead(framing));
      await client.send(kind === 'chunks' ? chunk('12345') : '12345');
      const request = await both.nextRequest();
      await request.bodyReaches(5);
      await expectCancelled(request.connection, () => part(client));
      expect(request.isComplete).toBe(false);
      expect(request.body.toString()).toBe('12345');
    });

    test.for([['a length', `Content-Length: ${64 * mebibyte}`], ['chunks', 'Transfer-Encoding: chunked']] as const)('in the middle of an upload with %s that the upstream does not read', async ([kind, framing]) => {
      const frame = kind === 'chunks' ? chunk : (piece: string | Buffer): Buffer => Buffer.from(piece);
      /** Stalls an upload, leaves, and expects the daemon to close. False if the daemon's receive buffer had no room left for the FIN: then it cannot know. */
      const leave = async (): Promise<boolean> => {
        const client = await connect(both.daemon.port);
        await client.send(both.uploadHead(framing));
        await client.send(frame('12345'));
        const request = await both.nextRequest();
        request.connection.pause();
        const [ours, theDaemons] = [client.socket.localPort ?? 0, request.connection.tcp.remotePort ?? 0];
        // Sends until the daemon stops reading.
        const unread = (): number => establishedConnections().find(({ local, remote }) => local === both.daemon.port && remote === ours)?.unread ?? 0;
        void client.send(frame(Buffer.alloc(2 * mebibyte, 'x')));
        for (let calm = 0; calm < 5;) {
          const stalled = unread() > 0;
          if (!stalled && client.socket.writableLength === 0) void client.send(frame(Buffer.alloc(262_144, 'x')));
          calm = stalled ? calm + 1 : 0;
          await new Promise((resolve) => setTimeout(resolve, pollMs));
        }
        expect(client.text).toBe('');
        part(client);
        // The upstream does not read, so only the kernel knows that the daemon has closed.
        const hasLetGo = (): boolean => !establishedConnections().some(({ local, remote }) => local === theDaemons && remote === both.upstream.port);
        await eventually(() => hasLetGo() || hasWaitingFin(ours, both.daemon.port), () => 'the connection to the upstream to close');
        const isTold = hasLetGo();
        request.connection.resume();
        expect(await request.connection.closed()).not.toBe('local');
        expect(request.isComplete).toBe(false);
        return isTold;
      };
      for (let attempts = 1; !(await leave()); attempts++) expect(attempts).toBeLessThan(20);
    });

    test('in the middle of a chunk, its size line, or right before the last chunk', async () => {
      for (const unfinished of ['a\r\n123', '1', 'a', 'a\r', 'a\r\n', '5\r\n12345', '5\r\n12345\r\n', '5\r\n12345\r\n0', '5\r\n12345\r\n0\r\n', '5\r\n12345\r\n0\r\n\r', '5\r\n12345\r\n0\r\nx-trailer: 1\r\n']) {
        const client = await connect(both.daemon.port);
        await client.send(both.uploadHead('Transfer-Encoding: chunked'));
        await client.send(chunk('whole'));
        const request = await both.nextRequest();
        await request.bodyReaches(5);
        await client.send(unfinished);
        await expectCancelled(request.connection, () => part(client));
        expect(request.isComplete, JSON.stringify(unfinished)).toBe(false);
      }
    });

    test('one byte before the end of its upload', async () => {
      const client = await connect(both.daemon.port);
      const raw = both.rawRequest({ body: 'x'.repeat(70_000) });
      await client.send(raw.subarray(0, -1));
      const request = await both.nextRequest();
      await request.bodyReaches(69_999);
      await expectCancelled(request.connection, () => part(client));
      expect(request.isComplete).toBe(false);
    });

    test('while a second request is pipelined behind: the second is never sent', async () => {
      const client = await connect(both.daemon.port);
      await client.send(Buffer.concat([both.rawRequest({ body: 'first' }), both.rawRequest({ body: 'second' })]));
      const request = await both.nextRequest();
      await request.complete();
      const before = both.upstream.requests.length;
      await expectCancelled(request.connection, () => part(client));
      both.upstream.answerWith(answer(200, '{}'));
      expect((await both.ask({ body: 'third' })).status).toBe(200);
      both.upstream.answerWith(() => {});
      expect((await both.nextRequest()).body.toString()).toBe('third');
      expect(both.upstream.requests).toHaveLength(before + 1);
    });

    test('before there is a connection to the upstream: its request is never sent', async () => {
      const upstream = await startUpstream();
      const relay = await startRelay(upstream.port, { holds: true });
      const daemon = await startDaemon({ args: ['--upstream-url', `https://localhost:${relay.port}${endpoint.path}`, '--upstream-ca', caFile(), ...endpoint.args()] });
      const proxied = new Proxied(upstream, daemon, endpoint);
      const client = await connect(daemon.port);
      await client.send(proxied.rawRequest({ body: 'abandoned' }));
      await relay.nextConnection();
      part(client);
      // The daemon has seen the client leave once it answers a later one.
      expect((await proxied.ask({ method: 'GET' })).status).toBe(403);
      upstream.answerWith(answer(200, '{}'));
      relay.release();
      expect((await proxied.ask({ body: 'wanted' })).status).toBe(200);
      expect(upstream.requests.map(({ body }) => body.toString())).toEqual(['wanted']);
    });

    test('does not disturb the responses of other clients', async () => {
      const others = [await asking(both), await asking(both), await asking(both)];
      const leaving = await asking(both);
      await expectCancelled(leaving.request.connection, () => part(leaving.client));
      for (const { client, request } of others) {
        await request.reply(answer(200, 'still here'));
        expect((await client.response()).text()).toBe('still here');
      }
    });
  });

  test('a client that only ends its sending side gets its whole response, or its request is cancelled', async () => {
    const { client, request } = await asking(both);
    client.halfClose();
    // The daemon has seen that once it answers a later client.
    expect((await both.ask({ method: 'GET' })).status).toBe(403);
    await request.reply(answer(200, 'whole'));
    const response = await client.response().catch(() => undefined);
    if (response !== undefined) {
      expect(response.text()).toBe('whole');
      expect(response.complete).toBe(true);
    } else {
      expect(await request.connection.closed()).not.toBe('local');
      expect(client.text).toBe('');
    }
  });
});
