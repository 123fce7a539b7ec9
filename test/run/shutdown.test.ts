import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { launch, shell, startDaemon, type Daemon, type DaemonOptions, type Running } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { expectNoStack } from '../support/messages.ts';
import { ask, connect, exchange, rawRequest, type RawClient, type RawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, streamHead, type Upstream, type UpstreamRequest } from '../support/upstream.ts';

/**
 * What is quicker than this did not wait for the default --shutdown-timeout of 10 s. The promise is 100 ms;
 * a machine that is busy with other tests may need more.
 */
const soonMs = 3_000;

const shutdown: RawRequest = { method: 'GET', target: '/shutdown' };

interface RunningAnswer {
  readonly upstream: Upstream;
  readonly daemon: Daemon;
  readonly client: RawClient;
  readonly request: UpstreamRequest;
}

/** A daemon in the middle of an answer: the client has its head and first event. */
async function answering(options: DaemonOptions = {}): Promise<RunningAnswer> {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ ...options, args: [...upstream.args, '--http-shutdown', ...(options.args ?? [])] });
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  await request.reply(streamHead());
  await request.reply(chunk('data: one\n\n'));
  await client.waitFor('data: one');
  return { upstream, daemon, client, request };
}

async function finish({ client, request }: RunningAnswer): Promise<void> {
  await request.reply(Buffer.concat([chunk('data: two\n\n'), Buffer.from('0\r\n\r\n')]));
  const response = await client.response();
  expect(response.complete).toBe(true);
  expect(response.text()).toBe('data: one\n\ndata: two\n\n');
}

async function refusesConnections(port: number): Promise<boolean> {
  return connect(port).then(() => false, () => true);
}

/** The time from now until the daemon has ended with code 0. */
async function timeToEnd(daemon: Daemon): Promise<number> {
  const before = performance.now();
  const exit = await daemon.waitForExit(15_000);
  expect(exit).toMatchObject({ code: 0, signal: null, stdout: '' });
  return performance.now() - before;
}

describe('GET /shutdown', () => {
  test('answers 200 and ends the daemon with code 0, soon', async () => {
    const daemon = await startDaemon({ args: ['--http-shutdown'] });
    const response = await ask(daemon.port, shutdown);
    expect(response.status).toBe(200);
    expect(response.complete).toBe(true);
    expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
  });

  test('answers over HTTP/1.0 too', async () => {
    const daemon = await startDaemon({ args: ['--http-shutdown'] });
    expect((await ask(daemon.port, { ...shutdown, version: 'HTTP/1.0' })).status).toBe(200);
    expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
  });

  test('is refused without --http-shutdown', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: upstream.args });
    const response = await ask(daemon.port, shutdown);
    expect(response.status).toBe(403);
    envelopeOf(response);
    expect((await ask(daemon.port)).status).toBe(200);
    expect(daemon.exit).toBe(undefined);
  });

  test('is exact: anything like it is refused and ends nothing', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
    const alike: RawRequest[] = [
      ...['POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'].map((method) => ({ ...shutdown, method })),
      ...['/shutdown/', '/shutdown?', '/shutdown?now', '/Shutdown', '//shutdown', '/%73hutdown', '/./shutdown', '/v1/../shutdown', '/shutdown#', `${daemon.origin}/shutdown`, '/v1/shutdown', '/shutdownx']
        .map((target) => ({ ...shutdown, target })),
      { ...shutdown, version: 'HTTP/2.0' },
    ];
    for (const request of alike) {
      const response = await ask(daemon.port, request);
      expect(response.status, JSON.stringify(request)).toBe(403);
      if (request.method !== 'HEAD') envelopeOf(response);
    }
    expect((await ask(daemon.port)).status).toBe(200);
    expect(daemon.exit).toBe(undefined);
    expect(upstream.requests).toHaveLength(1);
  });

  test('never reaches the upstream', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
    expect((await ask(daemon.port, shutdown)).status).toBe(200);
    await daemon.waitForExit();
    expect(upstream.requests).toHaveLength(0);
  });
});

describe.for<[string, (daemon: Daemon) => Promise<unknown> | void]>([
  ['GET /shutdown', (daemon) => ask(daemon.port, shutdown)],
  ['SIGTERM', (daemon) => daemon.signal('SIGTERM')],
  ['SIGINT', (daemon) => daemon.signal('SIGINT')],
  ['SIGHUP', (daemon) => daemon.signal('SIGHUP')],
])('%s', ([, trigger]) => {
  test('ends an idle daemon with code 0, soon, whatever connections are kept', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
    const [kept, , halfway] = await Promise.all([connect(daemon.port), connect(daemon.port), connect(daemon.port)]);
    await kept.send(rawRequest(daemon.port));
    expect((await kept.response()).status).toBe(200);
    await halfway.send('POST /v1/responses HT');
    await trigger(daemon);
    expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
  });

  test('lets a running answer finish, and takes no new connection meanwhile', async () => {
    const running = await answering();
    await trigger(running.daemon);
    // A signal is dealt with a moment after it was sent.
    await expect.poll(() => refusesConnections(running.daemon.port), { timeout: 5_000, interval: 10 }).toBe(true);
    expect(running.daemon.exit).toBe(undefined);
    await finish(running);
    expect(await timeToEnd(running.daemon)).toBeLessThan(soonMs);
  });

  test('cuts an answer that is still running after --shutdown-timeout', async () => {
    const { daemon, client } = await answering({ args: ['--shutdown-timeout', '1'] });
    const before = performance.now();
    await trigger(daemon);
    expect(await client.waitForClose()).not.toBe('local');
    expect((await client.response()).complete).toBe(false);
    await timeToEnd(daemon);
    expect(performance.now() - before).toBeGreaterThan(900);
    expect(performance.now() - before).toBeLessThan(1_000 + soonMs);
  });
});

test('an answer whose head is not here yet is running too', async () => {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: upstream.args });
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  daemon.signal('SIGTERM');
  await expect.poll(() => refusesConnections(daemon.port), { timeout: 5_000, interval: 10 }).toBe(true);
  await request.reply(answer(200, 'late'));
  expect((await client.response()).text()).toBe('late');
  expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
});

test('so is one whose request is still being uploaded', async () => {
  const upstream = await startUpstream({ answer: answer(200, 'whole') });
  const daemon = await startDaemon({ args: upstream.args });
  const client = await connect(daemon.port);
  const raw = rawRequest(daemon.port, { body: 'x'.repeat(1_000) });
  await client.send(raw.subarray(0, -500));
  const request = await upstream.nextRequest();
  daemon.signal('SIGTERM');
  await expect.poll(() => refusesConnections(daemon.port), { timeout: 5_000, interval: 10 }).toBe(true);
  await client.send(raw.subarray(-500));
  expect((await client.response()).text()).toBe('whole');
  expect((await request.complete()).bodyLength).toBe(1_000);
  expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
});

test('with --shutdown-timeout 0 nothing is waited for', async () => {
  const { daemon, client } = await answering({ args: ['--shutdown-timeout', '0'] });
  daemon.signal('SIGTERM');
  expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
  expect((await client.response()).complete).toBe(false);
});

describe('a second signal ends it at once', () => {
  test.for<[NodeJS.Signals, NodeJS.Signals]>([['SIGTERM', 'SIGTERM'], ['SIGINT', 'SIGINT'], ['SIGINT', 'SIGTERM'], ['SIGHUP', 'SIGINT']])('%s, then %s', async ([first, second]) => {
    const { daemon, client } = await answering();
    daemon.signal(first);
    await expect.poll(() => refusesConnections(daemon.port), { timeout: 5_000, interval: 10 }).toBe(true);
    expect(daemon.exit).toBe(undefined);
    const before = performance.now();
    daemon.signal(second);
    await daemon.waitForExit();
    expect(performance.now() - before).toBeLessThan(soonMs);
    expect((await client.response()).complete).toBe(false);
  });

  test('GET /shutdown, then SIGTERM', async () => {
    const { daemon } = await answering();
    await ask(daemon.port, shutdown);
    const before = performance.now();
    daemon.signal('SIGTERM');
    daemon.signal('SIGINT');
    await daemon.waitForExit();
    expect(performance.now() - before).toBeLessThan(soonMs);
  });
});

describe('a signal that was ignored at start stays ignored', () => {
  test.for<[string, NodeJS.Signals, readonly string[]]>([
    ['SIGHUP', 'SIGHUP', shell('trap "" HUP')],
    ['SIGINT', 'SIGINT', shell('trap "" INT')],
    ['SIGTERM', 'SIGTERM', shell('trap "" TERM')],
    ['SIGHUP by nohup', 'SIGHUP', ['nohup']],
  ])('%s', async ([, signal, prefix]) => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'], prefix });
    for (let count = 0; count < 3; count++) {
      daemon.signal(signal);
      expect((await ask(daemon.port)).status).toBe(200);
    }
    expect(daemon.exit).toBe(undefined);
    // The others still work.
    daemon.signal(signal === 'SIGTERM' ? 'SIGINT' : 'SIGTERM');
    expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
  });

  test('also when it is sent while an answer runs', async () => {
    const running = await answering({ prefix: shell('trap "" HUP') });
    running.daemon.signal('SIGHUP');
    running.daemon.signal('SIGHUP');
    expect((await ask(running.daemon.port, { method: 'GET' })).status).toBe(403);
    await finish(running);
    running.daemon.signal('SIGTERM');
    expect(await timeToEnd(running.daemon)).toBeLessThan(soonMs);
  });
});

describe('while it waits for its key', () => {
  /** A daemon that reads its stdin, on which nothing has come yet. */
  async function waiting(prefix: readonly string[] = []): Promise<Running> {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const running = launch({ args: upstream.args, prefix, stdin: () => {} });
    // Hardened and asleep: the one thing it does then is wait.
    await expect.poll(() => {
      const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
      return /^NoNewPrivs:\s*1$/m.test(status) && /^State:\s*S/m.test(status);
    }, { timeout: 5_000, interval: 20 }).toBe(true);
    return running;
  }

  test.for<NodeJS.Signals>(['SIGTERM', 'SIGINT', 'SIGHUP'])('%s ends it, without a word', async (signal) => {
    const running = await waiting();
    running.signal(signal);
    const exit = await running.waitForExit();
    expect([exit.code, exit.signal]).toContain(exit.signal === null ? 0 : signal);
    expectNoStack(exit.stderr);
  });

  test('a signal that was ignored at start is ignored', async () => {
    const running = await waiting(shell('trap "" HUP'));
    running.signal('SIGHUP');
    running.child.stdin?.write(`${running.key}\n`);
    await running.waitForStderr(/listening on/);
  });
});

test('a pipelined request behind /shutdown is not served', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
  const raw = Buffer.concat([rawRequest(daemon.port, shutdown), rawRequest(daemon.port)]);
  expect((await exchange(daemon.port, raw)).status).toBe(200);
  expect(await timeToEnd(daemon)).toBeLessThan(soonMs);
  expect(upstream.requests).toHaveLength(0);
});
