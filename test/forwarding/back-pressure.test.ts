import { expect, test } from 'vitest';
import { bulkHash, writeBulk } from '../support/bulk.ts';
import { chunk } from '../support/http-bytes.ts';
import { establishedTo, mebibyte, memoryOf } from '../support/process-facts.ts';
import { asking, startBoth, uploadHead, type Proxied } from '../support/proxied.ts';
import { ask, connect } from '../support/raw-client.ts';
import { answer, type UpstreamConnection } from '../support/upstream.ts';

/** The promise: less than this more, whatever the sizes. */
const mostGrowth = 64 * mebibyte;

/** What may be on its way between two ends that are blocked: the kernel's buffers on four sockets, and the daemon's own. */
const mostInFlight = 48 * mebibyte;

const offered = 512 * mebibyte;

/** Resolves once `moved` has not changed for a while: nothing tells that something does not go on. */
async function standstill(moved: () => number): Promise<number> {
  let last = -1;
  for (;;) {
    const now = moved();
    if (now === last && now > 0) return now;
    last = now;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

/** The daemon's resident bytes, once it has done its work a few times. */
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
  // Others are served meanwhile.
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

test('what was held back arrives whole once the client reads again', async () => {
  const both = await startBoth();
  const length = 32 * mebibyte + 12_345;
  const { client, request } = await asking(both);
  client.pause();
  await request.reply(`HTTP/1.1 200 OK\r\ncontent-length: ${length}\r\n\r\n`);
  let handed = 0;
  void handUntilBlocked(request.connection, false, (piece) => (handed += piece), length);
  await standstill(() => handed);
  client.resume();
  await client.waitForBytes(length, 15_000);
  const response = await client.response();
  expect(response.body.length).toBe(length);
  expect(response.body.equals(Buffer.alloc(length, 'z'))).toBe(true);
});

test('what was held back arrives whole once the upstream reads again', async () => {
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
  await request.complete(15_000);
  expect(request.bodyLength).toBe(length);
  expect(request.bodyHash()).toBe(bulkHash(length));
  await request.reply(answer(200, 'got it'));
  expect((await client.response()).text()).toBe('got it');
});

test.for(['length', 'chunked'] as const)('an upload in the clear that the upstream does not read, %s, stops no other', async (kind) => {
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

test('a client that reads 1 KB/s keeps nobody waiting and gets what it is sent', async () => {
  const both = await startBoth();
  const before = await warm(both);
  const body = Buffer.alloc(8 * mebibyte, 'z');
  const { client, request } = await asking(both);
  client.pause();
  const sent = request.reply(answer(200, body));
  // `read(n)` instead of 'data': the kernel's window opens as slowly as this.
  let received = 0;
  for (let second = 0; second < 2; second++) {
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const piece = client.socket.read(1_024) as Buffer | null;
    received += piece?.length ?? 0;
    both.upstream.answerWith(answer(200, 'quick'));
    const started = performance.now();
    expect((await ask(both.daemon.port)).text()).toBe('quick');
    expect(performance.now() - started).toBeLessThan(1_000);
    both.upstream.answerWith(() => {});
  }
  expect(received).toBe(2_048);
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(mostGrowth);
  client.resume();
  await sent;
  await client.waitForBytes(body.length, 15_000);
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
