import { expect, test } from 'vitest';
import { chunk } from '../support/http-bytes.ts';
import { asking, startBoth, uploadHead, type Proxied } from '../support/proxied.ts';
import { connect, rawRequest, type RawClient } from '../support/raw-client.ts';
import { answer, streamHead } from '../support/upstream.ts';

/** A daemon that would wait for longer than any test does: one that ends has waited for nothing. test/long measures how soon. */
function startPatient(): Promise<Proxied> {
  return startBoth({ args: ['--shutdown-timeout', '3600'] });
}

async function expectToEnd({ daemon }: Proxied): Promise<void> {
  daemon.signal('SIGTERM');
  expect(await daemon.waitForExit()).toMatchObject({ code: 0, signal: null });
}

/** Signals it to stop, and resolves once it accepts no more connections. */
async function stopped({ daemon }: Proxied): Promise<void> {
  daemon.signal('SIGTERM');
  await expect.poll(() => connect(daemon.port).then(() => false, () => true), { interval: 10 }).toBe(true);
}

/** A client that keeps its connection open after a response. */
async function kept(both: Proxied): Promise<RawClient> {
  const { client, request } = await asking(both);
  await request.reply(answer(200, '{}'));
  await client.response();
  return client;
}

test('idle kept-alive connections are closed', async () => {
  const both = await startBoth();
  const client = await kept(both);
  both.daemon.signal('SIGTERM');
  expect(await client.waitForClose()).toBe('end');
  await both.daemon.waitForExit();
});

test('while a response is still running, they are closed too, or their next request gets a 503', async () => {
  const both = await startBoth();
  const client = await kept(both);
  const running = await asking(both);
  await stopped(both);
  await client.send(rawRequest(both.daemon.port, { body: 'late' }));
  const response = await client.response().catch(() => undefined);
  if (response !== undefined) {
    expect(response.status).toBe(503);
    expect(response.values('connection')).toEqual(['close']);
  }
  expect(await client.waitForClose()).not.toBe('local');
  expect(both.daemon.exit).toBe(undefined);
  await running.request.reply(answer(200, 'whole'));
  expect((await running.client.response()).text()).toBe('whole');
  await both.daemon.waitForExit();
  expect(both.upstream.requests.map(({ body }) => body.toString())).not.toContain('late');
});

test('kept-alive connections whose clients never close do not delay the exit', async () => {
  const both = await startPatient();
  for (let count = 0; count < 3; count++) await kept(both);
  await expectToEnd(both);
});

test('connections without a whole request do not delay the exit', async () => {
  const both = await startPatient();
  await connect(both.daemon.port);
  await (await connect(both.daemon.port)).send('POST /v1/resp');
  await (await connect(both.daemon.port)).send(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${both.daemon.port}\r\n`);
  // The daemon has read all of that once a later client has its response.
  await kept(both);
  await expectToEnd(both);
});

test('half-closed clients do not delay the exit', async () => {
  const both = await startPatient();
  const client = await kept(both);
  client.halfClose();
  const silent = await connect(both.daemon.port);
  silent.halfClose();
  await expectToEnd(both);
});

test('idle connections to the upstream do not delay the exit', async () => {
  const both = await startPatient();
  await Promise.all([kept(both), kept(both), kept(both)]);
  expect(both.upstream.openConnections.length).toBeGreaterThan(0);
  await expectToEnd(both);
  expect(both.upstream.openConnections).toHaveLength(0);
});

test('a response whose head comes after the stop says Connection: close, arrives in full, and its connection ends', async () => {
  const both = await startBoth();
  const { client, request } = await asking(both);
  await stopped(both);
  await request.reply(streamHead());
  await client.waitFor('\r\n\r\n');
  await request.reply(Buffer.concat([chunk('whole'), Buffer.from('0\r\n\r\n')]));
  const response = await client.response();
  expect(response.values('connection')).toEqual(['close']);
  expect(response.text()).toBe('whole');
  expect(response.complete).toBe(true);
  expect(await client.waitForClose()).toBe('end');
  expect((await both.daemon.waitForExit()).code).toBe(0);
});

test('a response that had begun arrives in full, then the daemon exits', async () => {
  const both = await startPatient();
  const { client, request } = await asking(both);
  await request.reply(streamHead());
  await request.reply(chunk('one,'));
  await client.waitFor('one,');
  await stopped(both);
  for (let count = 0; count < 5; count++) {
    await request.reply(chunk(`${count},`));
    await client.waitFor(`${count},`);
  }
  await request.reply('0\r\n\r\n');
  const response = await client.response();
  expect(response.text()).toBe('one,0,1,2,3,4,');
  expect(response.complete).toBe(true);
  expect((await both.daemon.waitForExit()).code).toBe(0);
});

test('a running upload is finished, and answered', async () => {
  const both = await startBoth();
  const client = await connect(both.daemon.port);
  await client.send(uploadHead(both.daemon.port, 'Transfer-Encoding: chunked'));
  await client.send(chunk('first,'));
  const request = await both.nextRequest();
  await stopped(both);
  await client.send(Buffer.concat([chunk('second'), Buffer.from('0\r\n\r\n')]));
  expect((await request.complete()).body.toString()).toBe('first,second');
  await request.reply(answer(200, 'whole'));
  expect((await client.response()).text()).toBe('whole');
  expect((await both.daemon.waitForExit()).code).toBe(0);
});

test('a client that does not read its response delays the exit no longer than --shutdown-timeout', async () => {
  const both = await startBoth({ args: ['--shutdown-timeout', '1'] });
  const { client, request } = await asking(both);
  client.pause();
  await request.reply('HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n');
  void request.reply(Buffer.alloc(50_000_000));
  const before = performance.now();
  both.daemon.signal('SIGTERM');
  expect(await both.daemon.waitForExit()).toMatchObject({ code: 0, signal: null });
  expect(performance.now() - before).toBeGreaterThan(900);
});

test('the upstream request is cancelled when --shutdown-timeout is over', async () => {
  const both = await startBoth({ args: ['--shutdown-timeout', '0.2'] });
  const { client, request } = await asking(both);
  both.daemon.signal('SIGTERM');
  expect(await request.connection.closed()).not.toBe('local');
  expect(await client.waitForClose()).not.toBe('local');
  expect((await both.daemon.waitForExit()).code).toBe(0);
});

test.for([['--shutdown-timeout', 1], ['a second signal', 2]] as const)('a response over HTTP/1.0 that %s cuts does not look complete', async ([, signals]) => {
  const both = await startBoth({ args: ['--shutdown-timeout', signals === 1 ? '1' : '60'] });
  const { client, request } = await asking(both, { version: 'HTTP/1.0' });
  await request.reply(streamHead());
  await request.reply(chunk('data: one\n\n'));
  await client.waitFor('data: one\n\n');
  for (let count = 0; count < signals; count++) await stopped(both);
  expect(await client.waitForClose()).toBe('ECONNRESET');
  expect((await both.daemon.waitForExit()).code).toBe(0);
});
