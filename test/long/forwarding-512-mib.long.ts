import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { bulkHash, writeBulk } from '../support/bulk.ts';
import { chunk } from '../support/http-bytes.ts';
import { mebibyte, memoryOf } from '../support/process-facts.ts';
import { asking, startBoth, uploadHead } from '../support/proxied.ts';
import { ask, connect } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

const length = 512 * mebibyte;
const mostGrowth = 64 * mebibyte;

/** Until V8 has optimized undici's parser, which takes memory while it goes on. */
const warmUps = 300;

const kinds = ['length', 'chunked'] as const;

/** Lets a peer read for some milliseconds, then pauses it for as long, until it is told to stop. */
function stutter(peer: { pause(): void; resume(): void }): () => void {
  let reads = true;
  const timer = setInterval(() => {
    reads = !reads;
    if (reads) peer.resume();
    else peer.pause();
  }, 5);
  return () => {
    clearInterval(timer);
    peer.resume();
  };
}

test.for(kinds)('512 MiB up, %s, to an upstream that reads in fits and starts', async (kind) => {
  const both = await startBoth({ upstream: { keepBytes: 0 } });
  both.startOver(answer(200, '{}'));
  for (let count = 0; count < warmUps; count++) await ask(both.daemon.port, { body: undefined });
  both.startOver();
  const before = memoryOf(both.daemon.pid).now;
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, kind === 'length' ? `Content-Length: ${length}` : 'Transfer-Encoding: chunked'));
  const sending = writeBulk(client.socket, length, kind === 'chunked' ? chunk : undefined);
  const request = await both.nextRequest();
  const stop = stutter(request.connection);
  expect(await sending).toBe(length);
  if (kind === 'chunked') await client.send('0\r\n\r\n');
  stop();
  await request.complete(120_000);
  expect(request.bodyLength).toBe(length);
  expect(request.bodyHash()).toBe(bulkHash(length));
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(mostGrowth);
  await request.reply(answer(200, 'got it'));
  expect((await client.response()).text()).toBe('got it');
});

test.for(kinds)('512 MiB down, %s, to a client that reads in fits and starts', async (kind) => {
  const both = await startBoth();
  both.startOver(answer(200, '{}'));
  for (let count = 0; count < warmUps; count++) await ask(both.daemon.port);
  both.startOver();
  const before = memoryOf(both.daemon.pid).now;
  const { client, request } = await asking(both);
  // Counts and hashes instead of keeping it all.
  const hash = createHash('sha256');
  let received = 0;
  let headLength = 0;
  client.socket.removeAllListeners('data');
  const done = new Promise<void>((resolve) => {
    let wire = Buffer.alloc(0);
    client.socket.on('data', (data: Buffer) => {
      received += data.length;
      if (headLength === 0) {
        wire = Buffer.concat([wire, data]);
        const end = wire.indexOf('\r\n\r\n');
        if (end < 0) return;
        headLength = end + 4;
        hash.update(wire.subarray(headLength));
      } else hash.update(data);
      if (kind === 'length' ? received === headLength + length : data.subarray(-5).toString() === '0\r\n\r\n') resolve();
    });
  });
  const stop = stutter(client);
  await request.reply(`HTTP/1.1 200 OK\r\n${kind === 'length' ? `content-length: ${length}` : 'transfer-encoding: chunked'}\r\n\r\n`);
  const piece = Buffer.alloc(65_536, 'z');
  const framed = kind === 'length' ? piece : chunk(piece);
  for (let sent = 0; sent < length; sent += piece.length) await request.reply(framed);
  if (kind === 'chunked') await request.reply('0\r\n\r\n');
  await done;
  stop();
  if (kind === 'length') {
    const expected = createHash('sha256');
    for (let sent = 0; sent < length; sent += piece.length) expected.update(piece);
    expect(hash.digest('hex')).toBe(expected.digest('hex'));
  } else expect(received).toBeGreaterThan(length);
  expect(memoryOf(both.daemon.pid).peak - before).toBeLessThan(mostGrowth);
});
