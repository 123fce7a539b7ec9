import { expect, test } from 'vitest';
import { shell, startDaemon, type Daemon } from '../support/daemon.ts';
import { ask, connect, rawRequest, type RawClient } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream, type UpstreamRequest } from '../support/upstream.ts';

const body = answer(200, '{}');

/** A daemon that may open so few files that only a dozen connections or so fit. */
async function start(): Promise<{ daemon: Daemon; upstream: Upstream; limit: number }> {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args, prefix: shell('ulimit -n 64') });
  const limit = Number(/^responses-api-proxy: at most (\d+) connections at once/m.exec(daemon.stderr)?.[1]);
  expect(limit).toBeGreaterThan(3);
  return { daemon, upstream, limit };
}

/** Opens `count` connections, in order. Each has had one response. */
async function accepted(daemon: Daemon, count: number): Promise<RawClient[]> {
  const clients: RawClient[] = [];
  for (let index = 0; index < count; index++) {
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port, { method: 'GET' }));
    expect((await client.response()).status).toBe(403);
    clients.push(client);
  }
  return clients;
}

/** Whether each connection still gets responses. */
async function alive(daemon: Daemon, clients: readonly RawClient[]): Promise<boolean[]> {
  return Promise.all(clients.map(async (client) => {
    await client.send(rawRequest(daemon.port, { method: 'GET' }));
    return client.response().then(() => true, () => false);
  }));
}

test('the oldest idle connection makes room', async () => {
  const { daemon, limit } = await start();
  const old = await accepted(daemon, limit);
  await accepted(daemon, 1);
  expect(await alive(daemon, old)).toEqual(old.map((_, index) => index > 0));
  await accepted(daemon, 1);
  expect(await alive(daemon, old)).toEqual(old.map((_, index) => index > 1));
});

test('half a head does not hold a place', async () => {
  const { daemon, limit } = await start();
  const slow = await connect(daemon.port);
  await slow.send('POST /v1/responses HTTP/1.1\r\nX: ');
  const [other] = await accepted(daemon, limit);
  await slow.waitForClose();
  expect(other?.ending).toBe(undefined);
});

test('a refused upload that goes on does not hold a place', async () => {
  const { daemon, limit } = await start();
  const uploader = await connect(daemon.port);
  await uploader.send(`POST /v1/models HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nContent-Length: 1000000\r\n\r\nx`);
  expect((await uploader.response()).status).toBe(403);
  const others = await accepted(daemon, limit);
  await uploader.waitForClose();
  expect(await alive(daemon, others)).toEqual(others.map(() => true));
});

test('a connection with an admitted request is kept', async () => {
  const { daemon, upstream, limit } = await start();
  const [waiting, uploading, idle] = await accepted(daemon, limit);
  if (waiting === undefined || uploading === undefined || idle === undefined) expect.fail('three were opened');
  await waiting.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  await uploading.send(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nContent-Length: 10\r\n\r\nx`);
  const upload = await upstream.nextRequest();
  await accepted(daemon, 1);
  await idle.waitForClose();
  expect([waiting.ending, uploading.ending]).toEqual([undefined, undefined]);
  await request.reply(body);
  expect((await waiting.response()).status).toBe(200);
  await uploading.send('x'.repeat(9));
  await upload.complete();
  await upload.reply(body);
  expect((await uploading.response()).status).toBe(200);
});

test('if all are busy the newest is closed, and there is room again when one is done', async () => {
  const { daemon, upstream, limit } = await start();
  const busy = await accepted(daemon, limit);
  for (const client of busy) await client.send(rawRequest(daemon.port));
  const requests: UpstreamRequest[] = [];
  while (requests.length < limit) requests.push(await upstream.nextRequest());
  for (let count = 0; count < 5; count++) {
    const late = await connect(daemon.port);
    await late.send(rawRequest(daemon.port));
    await late.waitForClose();
  }
  expect(upstream.requests).toHaveLength(limit);
  for (const request of requests) await request.reply(body);
  for (const client of busy) expect((await client.response()).status).toBe(200);
  upstream.answerWith(body);
  expect((await ask(daemon.port)).status).toBe(200);
});

test('the limit counts open connections, not past ones', async () => {
  const { daemon, upstream, limit } = await start();
  upstream.answerWith(body);
  for (let count = 0; count < 2 * limit; count++) expect((await ask(daemon.port)).status).toBe(200);
});
