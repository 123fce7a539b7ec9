import { expect, test } from 'vitest';
import { startDaemon } from '../support/daemon.ts';
import { ask, connect, rawRequest, type RawClient } from '../support/raw-client.ts';
import { answer, startUpstream } from '../support/upstream.ts';
import { visit } from '../support/visitor.ts';
import { Once, within } from '../support/wait.ts';

/** How many times as long as alone a good request may take beside a crowd, in the median. */
const mostRatio = 40;

const alone = 100;
const maxConnections = 1024;

/** The median time of good requests, each on a connection of its own, made until `isOver`, and at least `least` of them. */
async function medianMs(port: number, least: number, isOver: () => boolean = () => true): Promise<number> {
  const times: number[] = [];
  while (times.length < least || !isOver()) {
    const since = performance.now();
    expect((await ask(port)).status).toBe(200);
    times.push(performance.now() - since);
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN;
}

/** Good requests take hardly longer while `crowd` is at work than they took before, in the same daemon. */
async function expectPrompt(port: number, crowd: () => Promise<unknown>, least = 20): Promise<void> {
  const before = await medianMs(port, alone);
  let isOver = false;
  const over = crowd().finally(() => {
    isOver = true;
  });
  const beside = await medianMs(port, least, () => isOver);
  console.log(`beside a crowd: ${beside.toFixed(1)} ms; alone: ${before.toFixed(1)} ms`);
  expect(beside).toBeLessThan(mostRatio * before);
  await over;
}

test('400 half-open heads do not delay a good request', async () => {
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  const clients = await Promise.all(Array.from({ length: 400 }, () => connect(daemon.port)));
  for (const client of clients) void client.send(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nX: `);
  await expectPrompt(daemon.port, async () => {}, 50);
  expect(clients.filter(({ ending }) => ending !== undefined)).toEqual([]);
});

test('400 bodies that come byte by byte do not delay a good request', async () => {
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  const head = `POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nContent-Length: 4\r\n\r\n`;
  const clients = await Promise.all(Array.from({ length: 400 }, () => connect(daemon.port)));
  for (const client of clients) await client.send(head);
  await expectPrompt(daemon.port, async () => {
    for (let byte = 0; byte < 4; byte++) for (const client of clients) await client.send('x');
  });
  for (const client of clients) expect((await client.response()).status).toBe(200);
});

test('header bombs do not delay a good request', async () => {
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  const lines = Array.from({ length: 4_000 }, (_, index): [string, string] => [`X-${index}`, 'y']);
  const bomb = Buffer.concat([rawRequest(daemon.port, { headers: lines }), rawRequest(daemon.port)]);
  const bombs = await Promise.all(Array.from({ length: 100 }, () => connect(daemon.port)));
  await expectPrompt(daemon.port, () => Promise.all(bombs.map((client) => client.send(bomb))));
  for (const client of bombs) expect((await client.response()).status).toBe(431);
});

test('2,000 connections do not delay a good request, and the oldest idle ones are closed', async () => {
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  const clients: RawClient[] = [];
  let ended = 0;
  const evicted = new Once<true>();
  const crowd = (): Promise<unknown> => Promise.all(Array.from({ length: 40 }, async () => {
    for (let count = 0; count < 50; count++) {
      const client = await connect(daemon.port);
      void client.closed.then(() => {
        if (++ended === 2_000 - maxConnections) evicted.resolve(true);
      });
      clients.push(client);
      void client.send('POST /v1/responses HTTP/1.1\r\nX: ');
    }
  }));
  await expectPrompt(daemon.port, crowd);
  expect(clients).toHaveLength(2_000);
  await within(evicted.promise, 'the end of those above the limit');
  await expectPrompt(daemon.port, async () => {});
});

test('2,000 connections at once do not delay a good request', async () => {
  const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: upstream.args });
  // In a process of their own: it is the daemon that must be prompt, not this one.
  await expectPrompt(daemon.port, () => visit(undefined, { port: daemon.port, raw: 'POST ', how: 'hold', times: 2_000, atOnce: 2_000 }).finish());
});

test('a running response survives 2,000 connections', async () => {
  const upstream = await startUpstream({ tls: false });
  const daemon = await startDaemon({ args: upstream.args });
  const user = await connect(daemon.port);
  await user.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  await visit(undefined, { port: daemon.port, raw: '', how: 'hold', times: 2_000, atOnce: 100 }).finish();
  await request.reply(answer(200, '{"id":"resp_1"}'));
  expect((await user.response()).text()).toBe('{"id":"resp_1"}');
});
