import { expect, test } from 'vitest';
import { mebibyte, memoryOf } from '../support/process-facts.ts';
import { type Proxied, asking, startBoth } from '../support/proxied.ts';
import { type RawClient } from '../support/raw-client.ts';
import { answer } from '../support/upstream.ts';

// What is pipelined is not kept: however much a client sends behind a running request, the daemon holds one request a
// connection, and what node's parser makes of one read.

const inChunks = 'POST /v1/responses HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n';

/** What is sent behind a running request, and on how many connections. */
const floods: Record<string, readonly [connections: number, bytes: (both: Proxied) => Buffer]> = {
  '8,000 requests': [1, (both) => repeated(both.rawRequest(), 8_000)],
  '17 MB of small requests': [1, () => repeated(Buffer.from('GET / HTTP/1.1\r\n\r\n'), 950_000)],
  '16 requests of one-byte chunks': [1, () => repeated(Buffer.from(`${inChunks}${'1\r\nx\r\n'.repeat(10_000)}0\r\n\r\n`), 16)],
  'the smallest requests there are, on 100 connections': [100, () => repeated(Buffer.from('GET / HTTP/1.1\r\n\r\n'), 8_000)],
  'requests of one-byte chunks, on 100 connections': [100, () => repeated(Buffer.from(`${inChunks}${'1\r\nx\r\n'.repeat(5_000)}0\r\n\r\n`), 4)],
};

/** How much memory may grow. What is dropped is garbage for a while; before there was a bound, 100 connections took 800 to 1,200 MiB. */
const mostGrowth = (connections: number): number => (40 + 4 * connections) * mebibyte;

test.for(Object.entries(floods))('%s behind a running request take no memory', async ([, [connections, bytes]]) => {
  const both = await startBoth();
  for (let count = 0; count < 200; count++) await both.ask({ method: 'GET', target: '/v1/other' });
  const underway = [];
  for (let count = 0; count < connections; count++) underway.push(await asking(both));
  const before = memoryOf(both.daemon.pid).now;
  for (const { client } of underway) await flood(both, client, bytes(both));
  // The daemon has read all that it will.
  both.startOver(answer(200, 'other'));
  expect((await both.ask()).text()).toBe('other');
  const grown = memoryOf(both.daemon.pid).peak - before;
  expect(grown, `${Math.round(grown / mebibyte)} MiB`).toBeLessThan(mostGrowth(connections));
  expect(both.upstream.requests).toHaveLength(connections + 1);
  for (const { client } of underway) client.close();
  expect((await both.ask()).text()).toBe('other');
});

/** Sends it all, or until the daemon cuts the client off; then the daemon has seen to it. */
async function flood(both: Proxied, client: RawClient, bytes: Buffer): Promise<void> {
  await Promise.race([client.send(bytes), client.closed]);
  expect((await both.ask({ method: 'GET', target: '/v1/other' })).status).toBe(403);
}

function repeated(bytes: Buffer, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => bytes));
}
