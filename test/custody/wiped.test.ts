import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, type TestContext } from 'vitest';
import { buildCopy } from '../support/build-copy.ts';
import { launch, randomKey, startDaemon, type DaemonOptions, type Running } from '../support/daemon.ts';
import { denying, noLocking, noMemfdSecret } from '../support/deny.ts';
import { chunk } from '../support/http-bytes.ts';
import { scanMemory, type Scan } from '../support/memory.ts';
import { refusalOf } from '../support/messages.ts';
import { nativeTool } from '../support/native-tools.ts';
import { ask, connect, rawRequest } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, streamHead, type Upstream } from '../support/upstream.ts';

/** A daemon whose locked memory root can read, and which is read just before it ends. */
interface Watched {
  readonly options: DaemonOptions & { readonly key: string };
  /** What was found at that moment. */
  lastLook(): Scan;
}

async function watched(context: TestContext, rules: readonly string[] = [noMemfdSecret]): Promise<Watched> {
  needs(context, 'root', 'command cc');
  const folder = scratchFolder();
  const report = join(folder, 'report');
  const needles = join(folder, 'needles');
  const key = randomKey();
  writeFileSync(needles, `${key}\n`);
  const flags = ['-std=c11', '-D_GNU_SOURCE'];
  const holder = [await nativeTool('hold-exit', flags), report, await nativeTool('memory-scan', flags), needles, '--'];
  return {
    options: { key, prefix: [...holder, ...(await denying(...rules))] },
    // The held system call may be restarted; then it is checked again.
    lastLook: () => JSON.parse(readFileSync(report, 'utf8').trim().split('\n').at(-1) ?? '') as Scan,
  };
}

/** The control: while it runs, the key can be found. */
async function expectThere({ pid, key }: Running): Promise<void> {
  expect((await scanMemory(pid, key)).found.some(({ whole }) => whole)).toBe(true);
}

/** It was searched, and no piece of the key was left. */
function expectGone(look: Scan): void {
  expect(look.bytesRead).toBeGreaterThan(20_000_000);
  expect(look.found).toEqual([]);
}

async function serving(upstream: Upstream, options: DaemonOptions): ReturnType<typeof startDaemon> {
  const daemon = await startDaemon({ ...options, args: [...upstream.args, '--http-shutdown', ...(options.args ?? [])] });
  upstream.answerWith(answer(200, '{}'));
  expect((await ask(daemon.port)).status).toBe(200);
  await expectThere(daemon);
  return daemon;
}

describe('nothing of the key is left when it ends', () => {
  test.for<NodeJS.Signals>(['SIGTERM', 'SIGINT', 'SIGHUP'])('by %s', async (signal, context) => {
    const { options, lastLook } = await watched(context);
    const daemon = await serving(await startUpstream(), options);
    daemon.signal(signal);
    expect((await daemon.waitForExit()).code).toBe(0);
    expectGone(lastLook());
  });

  test('by GET /shutdown', async (context) => {
    const { options, lastLook } = await watched(context);
    const daemon = await serving(await startUpstream(), options);
    expect((await ask(daemon.port, { method: 'GET', target: '/shutdown' })).status).toBe(200);
    expect((await daemon.waitForExit()).code).toBe(0);
    expectGone(lastLook());
  });

  test('by a second signal, in the middle of an answer', async (context) => {
    const { options, lastLook } = await watched(context);
    const upstream = await startUpstream();
    const daemon = await serving(upstream, options);
    upstream.answerWith(`${streamHead()}${chunk('data: one\n\n').toString('latin1')}`);
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    await client.waitFor('data: one');
    daemon.signal('SIGTERM');
    // Two at once would count as one, so the second is sent once the first has taken effect.
    await expect.poll(() => connect(daemon.port).then(() => 'accepted', () => 'refused'), { interval: 5 }).toBe('refused');
    daemon.signal('SIGTERM');
    await daemon.waitForExit();
    expectGone(lastLook());
  });

  test('by the end of --shutdown-timeout, in the middle of an answer', async (context) => {
    const { options, lastLook } = await watched(context);
    const upstream = await startUpstream();
    const daemon = await serving(upstream, { ...options, args: ['--shutdown-timeout', '0.1'] });
    upstream.answerWith(`${streamHead()}${chunk('data: one\n\n').toString('latin1')}`);
    const client = await connect(daemon.port);
    await client.send(rawRequest(daemon.port));
    await client.waitFor('data: one');
    daemon.signal('SIGTERM');
    await daemon.waitForExit();
    expectGone(lastLook());
  });

  test('where nothing could be locked', async (context) => {
    const { options, lastLook } = await watched(context, noLocking);
    const daemon = await serving(await startUpstream(), { ...options, args: ['--unsafe-unlocked-memory'] });
    daemon.signal('SIGTERM');
    expect((await daemon.waitForExit()).code).toBe(0);
    expectGone(lastLook());
  });
});

describe('nothing of the key is left when the start fails after it was read', () => {
  test('for the port is taken', async (context) => {
    const { options, lastLook } = await watched(context);
    const taken = await startUpstream({ tls: false });
    const running = launch({ ...options, args: ['--port', String(taken.port)] });
    refusalOf(await running.waitForExit(), 1);
    expectGone(lastLook());
  });

  test('for --server-info cannot be written', async (context) => {
    const { options, lastLook } = await watched(context);
    const running = launch({ ...options, args: ['--server-info', scratchFolder()] });
    expect((await running.waitForExit()).code).toBeGreaterThan(0);
    expectGone(lastLook());
  });

  test('for --run-as fails', async (context) => {
    const { options, lastLook } = await watched(context, [noMemfdSecret, 'setgid=EPERM']);
    const running = launch({ ...options, args: ['--run-as', 'nobody'] });
    refusalOf(await running.waitForExit(), 3);
    expectGone(lastLook());
  });

  test.for<[string, (key: string) => string]>([
    ['a space inside', (key) => `${key.slice(0, 80)} ${key.slice(80)}\n`],
    ['another line', (key) => `${key}\n${key}\n`],
    ['far too much', (key) => `${key.repeat(100)}\n`],
  ])('for it is not a key: %s', async ([, make], context) => {
    const { options, lastLook } = await watched(context);
    const running = launch({ ...options, stdin: make(options.key) });
    refusalOf(await running.waitForExit(), 1);
    expectGone(lastLook());
  });
});

describe('the wipe comes first', () => {
  /** A build whose other clean-up does this, once it has said `cleaning up` on stdout. */
  function buildWhoseCleanUp(does: string): string {
    const folder = buildCopy();
    const file = join(folder, 'dist', 'extras', 'oversight.js');
    const program = readFileSync(file, 'utf8');
    const place = /^ {4}close\(\) \{$/m;
    expect(program).toMatch(place);
    writeFileSync(file, `import { writeSync } from 'node:fs';\n${program.replace(place, `close() { writeSync(1, 'cleaning up'); ${does}`)}`);
    return join(folder, 'src', 'launcher.sh');
  }

  test('where another clean-up never ends', async (context) => {
    needs(context, 'root', 'command cc');
    const launcher = buildWhoseCleanUp('Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);');
    const daemon = await startDaemon({ launcher, args: ['--audit-log', join(scratchFolder(), 'log')], prefix: await denying(noMemfdSecret) });
    await expectThere(daemon);
    daemon.signal('SIGTERM');
    await expect.poll(() => daemon.stdout).toBe('cleaning up');
    expectGone(await scanMemory(daemon.pid, daemon.key));
  });

  test('where another one fails', async (context) => {
    const { options, lastLook } = await watched(context);
    const launcher = buildWhoseCleanUp("throw Object.assign(new Error('x'), { code: 'EIO' });");
    const daemon = await startDaemon({ ...options, launcher, args: ['--audit-log', join(scratchFolder(), 'log')] });
    daemon.signal('SIGTERM');
    const exit = await daemon.waitForExit();
    expect(exit).toMatchObject({ code: 0, stdout: 'cleaning up' });
    expect(exit.stderr).toContain('cleaning up failed: EIO');
    expectGone(lastLook());
  });
});
