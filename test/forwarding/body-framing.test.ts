import { gzipSync } from 'node:zlib';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { responses } from '../support/endpoints.ts';
import { chunk, chunked } from '../support/http-bytes.ts';
import { startBoth, type Proxied } from '../support/proxied.ts';
import { connect, exchange, type RawResponse } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

describe('a body goes as it came', () => {
  const endpoint = responses;
  let both: Proxied;

  beforeAll(async () => {
    both = await startBoth({ endpoint });
  });

  beforeEach(() => both.startOver(answer(200, '{}')));

  const sizes = [0, 1, 65_535, 65_536, 65_537] as const;

  const bodyOf = (length: number): Buffer => Buffer.from(Uint8Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) & 0xff));

  describe('on the way up', () => {
    test.for(sizes)('%i bytes with a length keep it', async (size) => {
      const body = bodyOf(size);
      const [response, request] = await Promise.all([both.ask({ body }), both.nextRequest()]);
      expect(response.status).toBe(200);
      expect(request.values('content-length')).toEqual([String(size)]);
      expect(request.values('transfer-encoding')).toEqual([]);
      expect(request.body.equals(body)).toBe(true);
    });

    test.for(sizes)('%i bytes in chunks stay chunked', async (size) => {
      const body = bodyOf(size);
      const raw = Buffer.concat([Buffer.from(both.uploadHead('Transfer-Encoding: chunked')), size === 0 ? chunked() : chunked(body)]);
      const [response, request] = await Promise.all([exchange(both.daemon.port, raw), both.nextRequest()]);
      expect(response.status).toBe(200);
      // An empty body has no chunks, and may be sent with Content-Length: 0.
      if (size > 0) {
        expect(request.values('transfer-encoding')).toEqual(['chunked']);
        expect(request.values('content-length')).toEqual([]);
      }
      expect(request.body.equals(body)).toBe(true);
      expect(request.isComplete).toBe(true);
    });

    test('a request without a body, length or chunks has none', async () => {
      const [response, request] = await Promise.all([both.ask({ body: undefined }), both.nextRequest()]);
      expect(response.status).toBe(200);
      expect(request.bodyLength).toBe(0);
      expect(request.values('transfer-encoding')).toEqual([]);
    });

    test('many small chunks, however they are cut, are one body', async () => {
      const raw = Buffer.concat([Buffer.from('5;name=value\r\nhello\r\n'), Buffer.from('01\r\n,\r\n'), Buffer.from('A\r\n0123456789\r\n'), Buffer.from('0;last\r\n\r\n')]);
      const client = await connect(both.daemon.port);
      await client.send(both.uploadHead('Transfer-Encoding: chunked'));
      for (const byte of raw) await client.send(Uint8Array.of(byte));
      const request = await both.nextRequest();
      expect((await request.complete()).body.toString()).toBe('hello,0123456789');
      expect((await client.response()).status).toBe(200);
    });

    test('trailers are dropped', async () => {
      const client = await connect(both.daemon.port);
      await client.send(both.uploadHead('Transfer-Encoding: chunked\r\nTrailer: Authorization'));
      await client.send('5\r\nhello\r\n0\r\nAuthorization: Bearer sneaked\r\nX-Checksum: 3\r\n\r\n');
      const request = await (await both.nextRequest()).complete();
      expect(request.trailers).toEqual([]);
      expect(request.body.toString()).toBe('hello');
      expect((await client.response()).status).toBe(200);
    });

    test('a gzip body passes as it is, with its header', async () => {
      const body = gzipSync('{"model":"gpt"}'.repeat(100));
      const [response, request] = await Promise.all([
        both.ask({ headers: [['Content-Encoding', 'gzip']], body }),
        both.nextRequest(),
      ]);
      expect(response.status).toBe(200);
      expect(request.values('content-encoding')).toEqual(['gzip']);
      expect(request.body.equals(body)).toBe(true);
    });
  });

  describe('on the way down', () => {
    async function answered(raw: string | Uint8Array): Promise<RawResponse> {
      both.upstream.answerWith(raw);
      const [response] = await Promise.all([both.ask(), both.nextRequest()]);
      both.upstream.answerWith(answer(200, '{}'));
      return response;
    }

    test.for(sizes)('%i bytes with a length keep it', async (size) => {
      const body = bodyOf(size);
      const response = await answered(answer(200, body));
      expect(response.values('content-length')).toEqual([String(size)]);
      expect(response.values('transfer-encoding')).toEqual([]);
      expect(response.body.equals(body)).toBe(true);
    });

    test.for(sizes)('%i bytes in chunks stay chunked', async (size) => {
      const body = bodyOf(size);
      const response = await answered(Buffer.concat([Buffer.from(streamHead()), size === 0 ? chunked() : chunked(body)]));
      expect(response.complete).toBe(true);
      expect(response.values('transfer-encoding')).toEqual(['chunked']);
      expect(response.values('content-length')).toEqual([]);
      expect(response.body.equals(body)).toBe(true);
    });

    test('a body delimited by the end of the connection arrives in full, and chunked', async () => {
      both.upstream.answerWith((request) => {
        void request.reply('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end');
        request.connection.halfClose();
      });
      const [response] = await Promise.all([both.ask(), both.nextRequest()]);
      both.upstream.answerWith(answer(200, '{}'));
      expect(response.complete).toBe(true);
      expect(response.text()).toBe('until the end');
      expect(response.values('transfer-encoding')).toEqual(['chunked']);
    });

    test('trailers and chunk extensions are dropped', async () => {
      const response = await answered(`${streamHead(200, [['Trailer', 'X-Checksum']])}5;name=value\r\nhello\r\n0;x\r\nX-Checksum: 1\r\nSet-Cookie: late=1\r\n\r\n`);
      expect(response.complete).toBe(true);
      expect(response.text()).toBe('hello');
      expect(response.trailers).toEqual([]);
      expect(response.values('trailer')).toEqual([]);
    });

    test.for(['length', 'chunks'] as const)('a gzip body stays together with its header, with %s', async (kind) => {
      const body = gzipSync('data: {"type":"response.completed"}\n\n'.repeat(100));
      const headers = [['content-type', 'text/event-stream'], ['content-encoding', 'gzip'], ['vary', 'accept-encoding']] as const;
      const response = await answered(kind === 'length' ? answer(200, body, headers) : Buffer.concat([Buffer.from(streamHead(200, headers)), chunked(body.subarray(0, 50), body.subarray(50))]));
      expect(response.values('content-encoding')).toEqual(['gzip']);
      expect(response.body.equals(body)).toBe(true);
    });

    test.for([
      ['204', 'HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n', 204],
      ['204 with a length of 0', 'HTTP/1.1 204 No Content\r\nx-a: 1\r\ncontent-length: 0\r\n\r\n', 204],
      ['304', 'HTTP/1.1 304 Not Modified\r\nx-a: 1\r\netag: "x"\r\n\r\n', 304],
      ['304 with the length that a 200 would have', 'HTTP/1.1 304 Not Modified\r\nx-a: 1\r\ncontent-length: 1000\r\n\r\n', 304],
      ['205', 'HTTP/1.1 205 Reset Content\r\nx-a: 1\r\ncontent-length: 0\r\n\r\n', 205],
    ] as const)('%s has no body, and the connection goes on', async ([, raw, status]) => {
      const client = await connect(both.daemon.port);
      both.upstream.answerWith(raw);
      await client.send(both.rawRequest());
      const response = await client.response();
      await both.nextRequest();
      both.upstream.answerWith(answer(200, 'next'));
      expect(response.status).toBe(status);
      expect(response.values('x-a')).toEqual(['1']);
      expect(response.values('transfer-encoding')).toEqual([]);
      await client.send(both.rawRequest());
      expect((await client.response()).text()).toBe('next');
      await both.nextRequest();
      both.upstream.answerWith(answer(200, '{}'));
    });

    test('a 204 with a body reaches the client without it, and the body is not read as a response', async () => {
      const client = await connect(both.daemon.port);
      both.upstream.answerWith('HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello');
      await client.send(both.rawRequest());
      await both.nextRequest();
      const response = await client.response();
      expect([204, 502]).toContain(response.status);
      expect(client.text).not.toContain('hello');
      both.upstream.answerWith(answer(200, '{}'));
      expect((await both.ask()).text()).toBe('{}');
      await both.nextRequest();
    });

    test('bytes after a complete response are discarded', async () => {
      for (const surplus of ['surplus', '\r\n\r\n', answer(200, 'poison').toString('latin1')]) {
        both.upstream.answerWith(`HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}${surplus}`);
        const client = await connect(both.daemon.port);
        await client.send(both.rawRequest());
        expect((await client.response()).text()).toBe('{}');
        await both.nextRequest();
        both.upstream.answerWith(answer(200, 'clean'));
        await client.send(both.rawRequest());
        expect((await client.response()).text()).toBe('clean');
        await both.nextRequest();
      }
      both.upstream.answerWith(answer(200, '{}'));
    });

    test('bytes on an idle connection are discarded', async () => {
      for (let count = 0; count < 20; count++) {
        expect((await both.ask()).text()).toBe('{}');
        const { connection } = await both.nextRequest();
        await connection.send(answer(200, 'poison'));
        expect((await both.ask()).text()).toBe('{}');
        await both.nextRequest();
      }
    });
  });

  test('pieces of an answer that are many and small arrive whole', async () => {
    both.upstream.answerWith((request) => {
      void request.reply(Buffer.concat([Buffer.from(streamHead()), ...Array.from({ length: 5_000 }, (_, index) => chunk(`${index},`)), Buffer.from('0\r\n\r\n')]));
    });
    const [response] = await Promise.all([both.ask(), both.nextRequest()]);
    both.upstream.answerWith(answer(200, '{}'));
    expect(response.complete).toBe(true);
    expect(response.text()).toBe(Array.from({ length: 5_000 }, (_, index) => `${index},`).join(''));
  });
});
