import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { startDaemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { mebibyte } from '../support/process-facts.ts';
import { type Proxied, asking, startBoth, uploadHead } from '../support/proxied.ts';
import { ask, connect, type RawResponse } from '../support/raw-client.ts';
import { startRelay } from '../support/relay.ts';
import { listenSilently } from '../support/silent-listener.ts';
import { answer, startUpstream, streamHead } from '../support/upstream.ts';

/** What the flags are set to here, in seconds. */
const limit = '0.3';

/** Longer than that, in milliseconds, even though undici checks some of its timers only twice a second. */
const longerMs = 900;

/** Of --connect-timeout; the other two have none. */
const defaultTimeoutMs = 10_000;

/** @param told how much of its stderr is older */
async function expectTimeout(answered: Promise<RawResponse>, host: string, daemon: { stderr: string }, told = 0): Promise<void> {
  const before = performance.now();
  const response = await answered;
  const tookMs = performance.now() - before;
  expect(tookMs).toBeGreaterThan(250);
  expect(tookMs).toBeLessThan(defaultTimeoutMs);
  expect(response.status).toBe(504);
  expect(envelopeOf(response).code).toBe('upstream_timeout');
  const lines = daemon.stderr.slice(told).split('\n').filter((line) => line.includes('upstream_timeout'));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain(host);
}

describe('--connect-timeout', () => {
  test('a TCP connection that is never accepted', async () => {
    const { port } = await listenSilently();
    const daemon = await startDaemon({ args: ['--upstream-url', `https://127.0.0.1:${port}/v1/responses`, '--connect-timeout', limit] });
    await expectTimeout(ask(daemon.port), `127.0.0.1:${port}`, daemon);
  });

  test('a TLS handshake that stalls', async () => {
    const relay = await startRelay(1, { holds: true });
    const daemon = await startDaemon({ args: ['--upstream-url', `https://localhost:${relay.port}/v1/responses`, '--upstream-ca', caFile(), '--connect-timeout', limit] });
    await expectTimeout(ask(daemon.port), `localhost:${relay.port}`, daemon);
    await relay.until(() => relay.connections[0]?.ended === true, 'the connection to be given up');
  });

  test('does not limit the response', async () => {
    const both = await startBoth({ args: ['--connect-timeout', limit] });
    const { client, request } = await asking(both);
    await new Promise((resolve) => setTimeout(resolve, longerMs));
    await request.reply(answer(200, 'late'));
    expect((await client.response()).text()).toBe('late');
  });
});

describe('--response-timeout', () => {
  let both: Proxied;
  let told: number;

  beforeAll(async () => {
    both = await startBoth({ args: ['--response-timeout', limit] });
  });

  beforeEach(() => {
    both.startOver();
    told = both.daemon.stderr.length;
  });

  test('an upstream that does not respond', async () => {
    const before = both.upstream.requests.length;
    const { client, request } = await asking(both);
    await expectTimeout(client.response(), `localhost:${both.upstream.port}`, both.daemon, told);
    expect(await request.connection.closed()).not.toBe('local');
    expect(both.upstream.requests).toHaveLength(before + 1);
  });

  test('an upstream that stops in its response head', async () => {
    const { client, request } = await asking(both);
    await request.reply('HTTP/1.1 200 OK\r\nx-a: 1');
    await expectTimeout(client.response(), `localhost:${both.upstream.port}`, both.daemon, told);
  });

  test('an upstream that stops reading the upload', async () => {
    const client = await connect(both.daemon.port);
    await client.send(uploadHead(both.daemon.port, `Content-Length: ${64 * mebibyte}`));
    await client.send('first');
    const request = await both.nextRequest();
    request.connection.pause();
    void client.send(Buffer.alloc(32 * mebibyte));
    await expectTimeout(client.response(), `localhost:${both.upstream.port}`, both.daemon, told);
  });

  test('does not limit the upload, nor the response once it has begun', async () => {
    const client = await connect(both.daemon.port);
    await client.send(uploadHead(both.daemon.port, 'Content-Length: 10'));
    await client.send('01234');
    const request = await both.nextRequest();
    await new Promise((resolve) => setTimeout(resolve, longerMs));
    await client.send('56789');
    await request.complete();
    await request.reply(streamHead());
    await client.waitFor('\r\n\r\n');
    await new Promise((resolve) => setTimeout(resolve, longerMs));
    await request.reply(Buffer.concat([chunk('late'), Buffer.from('0\r\n\r\n')]));
    expect((await client.response()).text()).toBe('late');
  });
});

describe('--idle-timeout', () => {
  let both: Proxied;

  beforeAll(async () => {
    both = await startBoth({ args: ['--idle-timeout', limit] });
  });

  beforeEach(() => both.startOver());

  test('an upstream that falls silent in the middle: the response is cut', async () => {
    const { client, request } = await asking(both);
    await request.reply(streamHead());
    await request.reply(chunk('data: one\n\n'));
    await client.waitFor('data: one');
    const before = performance.now();
    expect(await client.waitForClose()).not.toBe('local');
    expect(performance.now() - before).toBeGreaterThan(250);
    expect((await client.response()).complete).toBe(false);
    await both.daemon.waitForStderr(new RegExp(`cut: .*localhost:${both.upstream.port}.*timeout`, 'i'));
  });

  test('does not limit the wait for the head, nor a response that keeps coming', async () => {
    const { client, request } = await asking(both);
    await new Promise((resolve) => setTimeout(resolve, longerMs));
    await request.reply(streamHead());
    for (let count = 0; count < 8; count++) {
      await request.reply(chunk(`data: ${count}\n\n`));
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    await request.reply('0\r\n\r\n');
    expect((await client.response()).complete).toBe(true);
  });

  test('does not count the time in which the client does not read', async () => {
    const length = 16 * mebibyte;
    const { client, request } = await asking(both);
    client.pause();
    const sent = request.reply(answer(200, Buffer.alloc(length, 'x')));
    await new Promise((resolve) => setTimeout(resolve, longerMs));
    client.resume();
    await sent;
    await client.waitForBytes(length);
    expect((await client.response()).body.length).toBe(length);
  });
});

test('0 means no limit, neither before the head nor between bytes', async () => {
  const both = await startBoth({ args: ['--connect-timeout', '0', '--response-timeout', '0', '--idle-timeout', '0'] });
  const { client, request } = await asking(both);
  await new Promise((resolve) => setTimeout(resolve, longerMs));
  await request.reply(streamHead());
  await client.waitFor('\r\n\r\n');
  await new Promise((resolve) => setTimeout(resolve, longerMs));
  await request.reply(Buffer.concat([chunk('late'), Buffer.from('0\r\n\r\n')]));
  expect((await client.response()).text()).toBe('late');
});

test('--connect-timeout 0 waits as long as the handshake takes', async () => {
  const upstream = await startUpstream({ answer: answer(200, 'served') });
  const relay = await startRelay(upstream.port, { holds: true });
  const daemon = await startDaemon({ args: ['--upstream-url', `https://localhost:${relay.port}/v1/responses`, '--upstream-ca', caFile(), '--connect-timeout', '0'] });
  const asked = ask(daemon.port);
  await relay.nextConnection();
  await new Promise((resolve) => setTimeout(resolve, longerMs));
  relay.release();
  expect((await asked).text()).toBe('served');
});
