import { beforeAll, describe, expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { ask, connect, rawRequest, type RawClient } from '../support/raw-client.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';
import { cleanUp } from '../support/cleanup.ts';

/** How long a head may take. */
const headTimeoutMs = 10_000;

/** How often a slow client sends something. */
const dripIntervalMs = 400;

let upstream: Upstream;
let daemon: Daemon;

interface Slow {
  readonly client: RawClient;
  /** When the head, or the connection, began: performance.now(). */
  readonly since: number;
}

const begun: Record<string, Slow> = {};
let lateButWhole: { status: number; tookMs: number };
let slowBody: { status: number; tookMs: number };
let idle: RawClient;
/** When each of them was closed. */

/** Sends `bytes` over `overMs`, by the clock: on a busy machine the pieces are larger. Stops when the connection does. */
function drip(client: RawClient, bytes: Buffer, overMs: number): Promise<void> {
  return new Promise((resolve) => {
    const began = performance.now();
    let sent = 0;
    const timer = setInterval(() => {
      if (sent >= bytes.length || client.ending !== undefined) return finish();
      const due = Math.ceil((bytes.length * (performance.now() - began)) / overMs);
      if (due > sent) void client.send(bytes.subarray(sent, sent = Math.min(due, bytes.length)));
    }, dripIntervalMs);
    const finish = (): void => {
      clearInterval(timer);
      resolve();
    };
    cleanUp(finish);
  });
}

/** A client that has sent `first`, which is the beginning of a head. */
async function begin(first: string | Buffer): Promise<Slow> {
  const client = await connect(daemon.port);
  const since = performance.now();
  if (first.length > 0) await client.send(first);
  return { client, since };
}

// All of them wait at the same time, so that the file takes little more than ten seconds.
beforeAll(async () => {
  upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
  daemon = await startDaemon({ args: upstream.args });
  const whole = rawRequest(daemon.port, { headers: [['X-Long', 'y'.repeat(400)]] });
  const head = whole.subarray(0, whole.indexOf('\r\n\r\n') + 2);

  begun['that says nothing'] = await begin('');
  begun['that sends one byte'] = await begin('P');
  begun['that sends an empty line'] = await begin('\r\n');
  begun['that stops in the request line'] = await begin('POST /v1/resp');
  begun['that stops in a header'] = await begin(head.subarray(0, 60));
  begun['that stops before the empty line'] = await begin(head);
  begun['that sends a byte now and then'] = await begin('');
  void drip(begun['that sends a byte now and then'].client, head, 30_000);
  begun['that sends an empty line now and then'] = await begin('');
  void drip(begun['that sends an empty line now and then'].client, Buffer.from('\r\n'.repeat(200)), 30_000);
  begun['that sends a header now and then'] = await begin(head);
  void drip(begun['that sends a header now and then'].client, Buffer.from('X: y\r\n'.repeat(200)), 30_000);

  const kept = await connect(daemon.port);
  await kept.send(whole);
  await kept.response();
  begun['that stops in its second head'] = { client: kept, since: performance.now() };
  await kept.send(head);

  const refused = await connect(daemon.port);
  await refused.send(rawRequest(daemon.port, { method: 'GET' }));
  await refused.response();
  begun['that stops in its head after a refusal'] = { client: refused, since: performance.now() };
  await refused.send(head);

  idle = await connect(daemon.port);
  await idle.send(whole);
  await idle.response();

  const late = (async () => {
    const { client, since } = await begin('');
    await drip(client, head.subarray(0, -2), headTimeoutMs / 2);
    await client.send(whole.subarray(head.length - 2));
    return { status: (await client.response()).status, tookMs: performance.now() - since };
  })();
  const body = (async () => {
    const { client, since } = await begin(`POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:${daemon.port}\r\nContent-Length: 60\r\n\r\n`);
    await drip(client, Buffer.alloc(60, 'x'), headTimeoutMs + 1_000);
    return { status: (await client.response()).status, tookMs: performance.now() - since };
  })();
  [lateButWhole, slowBody] = await Promise.all([late, body]);
});

const cases = ['that says nothing', 'that sends one byte', 'that sends an empty line', 'that stops in the request line', 'that stops in a header', 'that stops before the empty line', 'that sends a byte now and then',
  'that sends an empty line now and then', 'that sends a header now and then', 'that stops in its second head', 'that stops in its head after a refusal'];

describe('a peer is closed after ten seconds', () => {
  test.for(cases)('%s', async (name) => {
    const slow = begun[name];
    if (slow === undefined) expect.fail('it has not begun');
    expect(await slow.client.waitForClose()).not.toBe('local');
    const [last] = slow.client.text.match(/HTTP\/1\.1 408 [\s\S]*$/) ?? [];
    if (last !== undefined || !name.includes('nothing')) expect(last).toMatch(/\r\nConnection: close\r\n/i);
  });

  test('with a response that says why', async () => {
    const response = await begun['that stops in a header']?.client.response();
    if (response === undefined) expect.fail('it has not begun');
    expect(response.status).toBe(408);
    expect(envelopeOf(response).message).toContain('10 seconds');
  });
});

test('a slow head that is complete in time is served', () => {
  expect(lateButWhole.status).toBe(200);
  expect(lateButWhole.tookMs).toBeGreaterThan(headTimeoutMs / 2 - dripIntervalMs);
});

test('a body may take longer than that', () => {
  expect(slowBody.status).toBe(200);
  expect(slowBody.tookMs).toBeGreaterThan(headTimeoutMs);
});

test('a connection may wait longer than that for its next request', async () => {
  expect(idle.ending).toBe(undefined);
  await idle.send(rawRequest(daemon.port));
  expect((await idle.response()).status).toBe(200);
});

test('no incomplete head went upstream', () => {
  // The one kept open, the idle one twice, the late head and the slow body.
  expect(upstream.requests).toHaveLength(5);
});

test('other clients are served, and the log tells of the slow ones', async () => {
  expect((await ask(daemon.port)).status).toBe(200);
  expect(daemon.stderr).toMatch(/refused \(request_timeout\)/);
});
