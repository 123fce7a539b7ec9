import { describe, expect, test } from 'vitest';
import { launch, shell, startDaemon, type Daemon, type DaemonOptions, type Running } from '../support/daemon.ts';
import { envelopeOf } from '../support/envelope.ts';
import { chunk } from '../support/http-bytes.ts';
import { expectNoStack } from '../support/messages.ts';
import { isAwaitingKey } from '../support/process.ts';
import { ask, connect, exchange, rawRequest, type RawClient, type RawRequest } from '../support/raw-client.ts';
import { answer, startUpstream, streamHead, type Upstream, type UpstreamRequest } from '../support/upstream.ts';

/** Longer than any test waits: a daemon that ends has waited for nothing. test/long measures how soon. */
const patient = ['--shutdown-timeout', '3600'];

const shutdown: RawRequest = { method: 'GET', target: '/shutdown' };

interface RunningAnswer {
  readonly upstream: Upstream;
  readonly daemon: Daemon;
  readonly client: RawClient;
  readonly request: UpstreamRequest;
}

/** A daemon in the middle of a response: the client has its head and first event. */
async function answering(options: DaemonOptions = {}): Promise<RunningAnswer> {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ ...options, args: [...upstream.args, '--http-shutdown', ...(options.args ?? patient)] });
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

/** The line that says why it stops, and for what it waits. */
function stoppingFor(why: string, wait: string): RegExp {
  return new RegExp(String.raw`^responses-api-proxy: stopping \(${why}\)${wait}\n`, 'm');
}

/** Of --shutdown-timeout. */
const defaultTimeoutMs = 10_000;

async function expectToEnd(daemon: Daemon): Promise<void> {
  expect(await daemon.waitForExit()).toMatchObject({ code: 0, signal: null, stdout: '' });
}

describe('GET /shutdown', () => {
  test.for(['HTTP/1.0', 'HTTP/1.1'])('answers 200 over %s and ends the daemon with code 0; the upstream hears nothing of it', async (version) => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', ...patient] });
    const response = await ask(daemon.port, { ...shutdown, version });
    expect(response.status).toBe(200);
    expect(response.complete).toBe(true);
    await expectToEnd(daemon);
    expect(upstream.requests).toHaveLength(0);
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
});

const triggers: ReadonlyArray<readonly [string, (daemon: Daemon) => Promise<unknown> | void]> = [
  ['GET /shutdown', (daemon) => ask(daemon.port, shutdown)],
  ['SIGTERM', (daemon) => daemon.signal('SIGTERM')],
  ['SIGINT', (daemon) => daemon.signal('SIGINT')],
  ['SIGHUP', (daemon) => daemon.signal('SIGHUP')],
];

describe.for(triggers.slice(0, 2))('%s', ([name, trigger]) => {
  test('ends an idle daemon with code 0 despite open connections', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', ...patient] });
    const [kept, , halfway] = await Promise.all([connect(daemon.port), connect(daemon.port), connect(daemon.port)]);
    await kept.send(rawRequest(daemon.port));
    expect((await kept.response()).status).toBe(200);
    await halfway.send('POST /v1/responses HT');
    await trigger(daemon);
    await expectToEnd(daemon);
    expect(daemon.stderr).toMatch(stoppingFor(name, ''));
  });
});

describe.for(triggers)('%s', ([name, trigger]) => {
  test('lets a running response finish, and accepts no new connection meanwhile', async () => {
    const running = await answering();
    await trigger(running.daemon);
    // A signal takes effect a moment after it is sent.
    await running.daemon.waitForStderr(stoppingFor(name, '; waits up to 3600 s for running requests: 1'));
    await expect.poll(() => refusesConnections(running.daemon.port), { interval: 10 }).toBe(true);
    expect(running.daemon.exit).toBe(undefined);
    await finish(running);
    await expectToEnd(running.daemon);
  });
});

test('a response that is still running after --shutdown-timeout is cut', async () => {
  const { daemon, client } = await answering({ args: ['--shutdown-timeout', '1'] });
  const before = performance.now();
  daemon.signal('SIGTERM');
  expect(await client.waitForClose()).not.toBe('local');
  const tookMs = performance.now() - before;
  expect(tookMs).toBeGreaterThan(900);
  expect(tookMs).toBeLessThan(defaultTimeoutMs);
  expect((await client.response()).complete).toBe(false);
  await expectToEnd(daemon);
});

test('a response counts as running before its head has come', async () => {
  const upstream = await startUpstream();
  const daemon = await startDaemon({ args: [...upstream.args, ...patient] });
  const client = await connect(daemon.port);
  await client.send(rawRequest(daemon.port));
  const request = await upstream.nextRequest();
  daemon.signal('SIGTERM');
  await expect.poll(() => refusesConnections(daemon.port), { interval: 10 }).toBe(true);
  await request.reply(answer(200, 'late'));
  expect((await client.response()).text()).toBe('late');
  await expectToEnd(daemon);
});

test('and while its request is still being uploaded', async () => {
  const upstream = await startUpstream({ answer: answer(200, 'whole') });
  const daemon = await startDaemon({ args: [...upstream.args, ...patient] });
  const client = await connect(daemon.port);
  const raw = rawRequest(daemon.port, { body: 'x'.repeat(1_000) });
  await client.send(raw.subarray(0, -500));
  const request = await upstream.nextRequest();
  daemon.signal('SIGTERM');
  await expect.poll(() => refusesConnections(daemon.port), { interval: 10 }).toBe(true);
  await client.send(raw.subarray(-500));
  expect((await client.response()).text()).toBe('whole');
  expect((await request.complete()).bodyLength).toBe(1_000);
  await expectToEnd(daemon);
});

test('with --shutdown-timeout 0 it waits for nothing', async () => {
  const { daemon, client } = await answering({ args: ['--shutdown-timeout', '0'] });
  daemon.signal('SIGTERM');
  await expectToEnd(daemon);
  expect((await client.response()).complete).toBe(false);
});

describe('a second signal ends it at once', () => {
  test.for<[NodeJS.Signals, NodeJS.Signals]>([['SIGTERM', 'SIGTERM'], ['SIGHUP', 'SIGINT']])('%s, then %s', async ([first, second]) => {
    const { daemon, client } = await answering();
    daemon.signal(first);
    await expect.poll(() => refusesConnections(daemon.port), { interval: 10 }).toBe(true);
    expect(daemon.exit).toBe(undefined);
    daemon.signal(second);
    await daemon.waitForExit();
    expect((await client.response()).complete).toBe(false);
  });

  test('GET /shutdown, then SIGTERM', async () => {
    const { daemon } = await answering();
    await ask(daemon.port, shutdown);
    daemon.signal('SIGTERM');
    daemon.signal('SIGINT');
    await daemon.waitForExit();
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
    const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', ...patient], prefix });
    for (let count = 0; count < 3; count++) {
      daemon.signal(signal);
      expect((await ask(daemon.port)).status).toBe(200);
    }
    expect(daemon.exit).toBe(undefined);
    // The others still work.
    daemon.signal(signal === 'SIGTERM' ? 'SIGINT' : 'SIGTERM');
    await expectToEnd(daemon);
  });

  test('also when it is sent during a response', async () => {
    const running = await answering({ prefix: shell('trap "" HUP') });
    running.daemon.signal('SIGHUP');
    running.daemon.signal('SIGHUP');
    expect((await ask(running.daemon.port, { method: 'GET' })).status).toBe(403);
    await finish(running);
    running.daemon.signal('SIGTERM');
    await expectToEnd(running.daemon);
  });
});

describe('while it waits for its key', () => {
  /** A daemon that waits for its key on stdin. */
  async function waiting(prefix: readonly string[] = []): Promise<Running> {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const running = launch({ args: upstream.args, prefix, stdin: () => {} });
    await expect.poll(() => isAwaitingKey(running), { interval: 20 }).toBe(true);
    return running;
  }

  test.for<NodeJS.Signals>(['SIGTERM', 'SIGINT', 'SIGHUP'])('%s ends it silently', async (signal) => {
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

test('who asked for /shutdown is named where something asks the kernel for it', async () => {
  const uid = process.getuid?.();
  const daemon = await startDaemon({ args: ['--http-shutdown', '--allow-user', String(uid)] });
  await ask(daemon.port, shutdown);
  await expectToEnd(daemon);
  expect(daemon.stderr).toMatch(stoppingFor(`GET /shutdown from uid ${uid}`, ''));
});

test('a pipelined request behind /shutdown is not served', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown', ...patient] });
  const raw = Buffer.concat([rawRequest(daemon.port, shutdown), rawRequest(daemon.port)]);
  expect((await exchange(daemon.port, raw)).status).toBe(200);
  await expectToEnd(daemon);
  expect(upstream.requests).toHaveLength(0);
});
