import { expect, test } from 'vitest';
import { bulkHash, writeBulk } from '../support/bulk.ts';
import { chunk } from '../support/http-bytes.ts';
import { establishedTo, eventually, mebibyte, memoryOf } from '../support/process-facts.ts';
import { asking, startBoth, uploadHead, type Proxied } from '../support/proxied.ts';
import { ask, connect } from '../support/raw-client.ts';
import { standstill } from '../support/standstill.ts';
import { answer, type UpstreamConnection } from '../support/upstream.ts';

/** The promise: memory grows by less than this, for bodies of any size. */
const mostGrowth = 64 * mebibyte;

/** Most that can be in flight between two blocked ends: the kernel's buffers of four sockets, and the daemon's own. */
const mostInFlight = 48 * mebibyte;

const offered = 512 * mebibyte;

/** The daemon's resident bytes after a few exchanges. */
async function warm(both: Proxied): Promise<number> {
  both.startOver(answer(200, '{}'));
  for (let count = 0; count < 20; count++) expect((await ask(both.daemon.port)).status).toBe(200);
  both.startOver();
  return memoryOf(both.daemon.pid).now;
}

test.for(['length', 'chunked'] as const)('512 MiB offered to a client that stops reading, %s: the upstream has to wait, and memory stays', async (kind) => {
  const both = await startBoth();
  const before = await warm(both);
  const { client, request } = await asking(both);
  client.pause();
  const { connection } = request;
  await connection.send(`HTTP/1.1 200 OK\r\n${kind === 'length' ? `content-length: ${offered}` : 'transfer-encoding: chunked'}\r\n\r\n`);
  let handed = 0;
  void handUntilBlocked(connection, kind === 'chunked', (length) => (handed += length));
  const taken = await standstill(() => handed);
  expect(taken).toBeLessThan(mostInFlight);
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(mostGrowth);
  // Other clients are served meanwhile.
  both.upstream.answerWith(answer(200, 'other'));
  expect((await ask(both.daemon.port)).text()).toBe('other');
  expect(connection.ending).toBe(undefined);
  client.reset();
  expect(await connection.closed()).not.toBe('local');
});

test.for(['length', 'chunked'] as const)('512 MiB offered to an upstream that stops reading, %s: the client has to wait, and memory stays', async (kind) => {
  const both = await startBoth();
  const before = await warm(both);
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, kind === 'length' ? `Content-Length: ${offered}` : 'Transfer-Encoding: chunked'));
  const first = 'x'.repeat(100);
  await client.send(kind === 'chunked' ? chunk(first) : first);
  const request = await both.nextRequest();
  request.connection.pause();
  let handed = 0;
  const piece = Buffer.alloc(65_536, 'y');
  const hand = (): void => {
    if (client.socket.destroyed || handed >= offered - 100 - piece.length) return;
    client.socket.write(kind === 'chunked' ? chunk(piece) : piece, () => {
      handed += piece.length;
      hand();
    });
  };
  hand();
  const taken = await standstill(() => handed);
  expect(taken).toBeLessThan(mostInFlight);
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(mostGrowth);
  both.upstream.answerWith(answer(200, 'other'));
  expect((await ask(both.daemon.port)).text()).toBe('other');
  expect(client.text).toBe('');
  expect(establishedTo(both.upstream.port)).toBe(2);
  client.reset();
  request.connection.resume();
  expect(await request.connection.closed()).not.toBe('local');
  expect(request.isComplete).toBe(false);
});

test('what was held back arrives in full once the client reads again', async () => {
  const both = await startBoth();
  const length = 32 * mebibyte + 12_345;
  const { client, request } = await asking(both);
  client.pause();
  await request.reply(`HTTP/1.1 200 OK\r\ncontent-length: ${length}\r\n\r\n`);
  let handed = 0;
  void handUntilBlocked(request.connection, false, (piece) => (handed += piece), length);
  await standstill(() => handed);
  client.resume();
  await client.waitForBytes(length);
  const response = await client.response();
  expect(response.body.length).toBe(length);
  expect(response.body.equals(Buffer.alloc(length, 'z'))).toBe(true);
});

test('what was held back arrives in full once the upstream reads again', async () => {
  const both = await startBoth();
  const length = 32 * mebibyte + 12_345;
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, `Content-Length: ${length}`));
  const first = writeBulk(client.socket, length);
  const request = await both.nextRequest();
  request.connection.pause();
  await standstill(() => client.socket.bytesWritten);
  expect(request.isComplete).toBe(false);
  request.connection.resume();
  expect(await first).toBe(length);
  await request.complete();
  expect(request.bodyLength).toBe(length);
  expect(request.bodyHash()).toBe(bulkHash(length));
  await request.reply(answer(200, 'got it'));
  expect((await client.response()).text()).toBe('got it');
});

test.for(['length', 'chunked'] as const)('an upload over cleartext that the upstream does not read, %s, blocks no other request', async (kind) => {
  const both = await startBoth({ upstream: { tls: false } });
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, kind === 'length' ? `Content-Length: ${offered}` : 'Transfer-Encoding: chunked'));
  await client.send(kind === 'chunked' ? chunk('first') : 'first');
  const request = await both.nextRequest();
  request.connection.pause();
  const piece = Buffer.alloc(32 * mebibyte, 'y');
  void client.send(kind === 'chunked' ? chunk(piece) : piece);
  await standstill(() => client.socket.bytesWritten - client.socket.writableLength);
  both.upstream.answerWith(answer(200, 'other'));
  for (let count = 0; count < 10; count++) expect((await ask(both.daemon.port)).text()).toBe('other');
  expect(client.text).toBe('');
});

test('a client that reads a kilobyte now and then delays no other, and gets its whole response', async () => {
  const both = await startBoth();
  const before = await warm(both);
  // More than fits between two ends, so the upstream waits for the client all the time.
  const body = Buffer.alloc(mostInFlight + 16 * mebibyte, 'z');
  const { client, request } = await asking(both);
  client.pause();
  let isSent = false;
  const sent = request.reply(answer(200, body)).then(() => (isSent = true));
  for (let pieces = 0; pieces < 20; pieces++) {
    // `read(n)` instead of 'data': the kernel's window opens as slowly as this.
    await eventually(() => client.socket.read(1_024) !== null, () => 'a kilobyte');
    both.upstream.answerWith(answer(200, 'quick'));
    expect((await ask(both.daemon.port)).text()).toBe('quick');
    both.upstream.answerWith(() => {});
  }
  expect(isSent).toBe(false);
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(mostGrowth);
  client.resume();
  await sent;
  await client.waitForBytes(body.length);
  expect((await client.response()).body.equals(body)).toBe(true);
  expect(request.connection.ending).toBe(undefined);
});

/** Sends 'z's as fast as the connection takes them, up to `most`. */
async function handUntilBlocked(connection: UpstreamConnection, isChunked: boolean, onTaken: (length: number) => void, most = offered): Promise<void> {
  const piece = Buffer.alloc(65_536, 'z');
  for (let left = most; left > 0 && connection.ending === undefined; left -= piece.length) {
    const next = left < piece.length ? piece.subarray(0, left) : piece;
    await connection.send(isChunked ? chunk(next) : next);
    onTaken(next.length);
  }
}
