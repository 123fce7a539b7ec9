import { closeSync, constants, openSync, readFileSync, readlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { launch, listeningOn, shell, startDaemon, type Daemon, type DaemonOptions } from '../support/daemon.ts';
import { launcher } from '../support/daemon-paths.ts';
import { runTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream, type Upstream } from '../support/upstream.ts';
import { defaultWaitMs } from '../support/wait.ts';

/** Starts a daemon whose stderr cannot be read; its port comes from --server-info. */
async function startMute(upstream: Upstream, options: DaemonOptions): Promise<{ daemon: Daemon; file: string }> {
  const file = join(scratchFolder(), 'server-info.json');
  const running = launch({ ...options, args: [...upstream.args, '--http-shutdown', '--server-info', file, ...(options.args ?? [])] });
  const port = await vi.waitFor(() => {
    if (running.exit !== undefined) throw new Error(`it ended with code ${running.exit.code}, signal ${running.exit.signal}`);
    return (JSON.parse(readFileSync(file, 'utf8')) as { port: number }).port;
  }, { timeout: defaultWaitMs, interval: 10 });
  return { daemon: listeningOn(running, port), file };
}

/** Serves, fails in ways that are logged, serves again, and stops normally. */
async function expectUnharmed(daemon: Daemon, upstream: Upstream): Promise<void> {
  expect((await ask(daemon.port)).status).toBe(200);
  upstream.answerWith((request) => request.connection.reset());
  for (let count = 0; count < 5; count++) {
    expect((await ask(daemon.port, { method: 'GET', target: `/noise/${count}` })).status).toBe(403);
    expect((await ask(daemon.port)).status).toBe(502);
  }
  upstream.answerWith(answer(200, '{}'));
  expect((await ask(daemon.port)).status).toBe(200);
  expect((await ask(daemon.port, { method: 'GET', target: '/shutdown' })).status).toBe(200);
  expect(await daemon.waitForExit()).toMatchObject({ code: 0, signal: null, stdout: '' });
}

test('a stderr that is closed at start does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const { daemon, file } = await startMute(upstream, { prefix: shell('exec 2>&-') });
  // No file opened later may have taken descriptor 2.
  expect(readFileSync(file, 'utf8')).toBe(`{"port":${daemon.port},"pid":${daemon.pid}}\n`);
  await expectUnharmed(daemon, upstream);
});

test('stdout and stderr that are both closed at start do no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const { daemon, file } = await startMute(upstream, { prefix: shell('exec >&- 2>&-') });
  expect(readFileSync(file, 'utf8')).toBe(`{"port":${daemon.port},"pid":${daemon.pid}}\n`);
  await expectUnharmed(daemon, upstream);
});

test('a reader of stderr that is gone before the start does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const fifo = join(scratchFolder(), 'stderr');
  await runTool('mkfifo', [fifo]);
  const both = openSync(fifo, constants.O_RDWR);
  const end = openSync(fifo, constants.O_WRONLY);
  closeSync(both);
  const { daemon } = await startMute(upstream, { stderr: end });
  closeSync(end);
  await expectUnharmed(daemon, upstream);
});

test('a reader of stderr that vanishes does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'] });
  daemon.child.stderr?.destroy();
  await expectUnharmed(daemon, upstream);
});

test('a stderr that is full and never read does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const fifo = join(scratchFolder(), 'stderr');
  await runTool('mkfifo', [fifo]);
  // Our end does not block; the daemon's is opened separately and does: like a pipe to a stopped reader.
  const ours = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const { daemon } = await startMute(upstream, { prefix: shell(`exec 2>'${fifo}'`) });
    fill(ours);
    await expectUnharmed(daemon, upstream);
  } finally {
    closeSync(ours);
  }
});

test('a stderr that is full before the start does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const fifo = join(scratchFolder(), 'stderr');
  await runTool('mkfifo', [fifo]);
  const ours = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    fill(ours);
    const { daemon } = await startMute(upstream, { prefix: shell(`exec 2>'${fifo}'`) });
    await expectUnharmed(daemon, upstream);
  } finally {
    closeSync(ours);
  }
});

test('a socket as stderr that is full and never read does no harm', async (context) => {
  needs(context, 'command python3');
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const script = [
    'import os, socket, sys',
    'ours, stderr = socket.socketpair()',
    'stderr.setblocking(False)',
    'try:',
    '  while True: stderr.send(b"." * 4096)',
    'except BlockingIOError: pass',
    'try:',
    '  while True: stderr.send(b".")',
    'except BlockingIOError: pass',
    'stderr.setblocking(True)',
    'os.dup2(stderr.fileno(), 2)',
    'os.set_inheritable(ours.fileno(), True)',
    'os.execvp(sys.argv[1], sys.argv[1:])',
  ].join('\n');
  const { daemon } = await startMute(upstream, { prefix: ['python3', '-c', script] });
  await expectUnharmed(daemon, upstream);
});

test('a full disk under stderr does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const full = openSync('/dev/full', 'w');
  try {
    const { daemon } = await startMute(upstream, { stderr: full });
    await expectUnharmed(daemon, upstream);
  } finally {
    closeSync(full);
  }
});

test('a closed stdout does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ args: [...upstream.args, '--http-shutdown'], prefix: shell('exec >&-') });
  await expectUnharmed(daemon, upstream);
});

test('it does not change the stderr that it shares with others', async () => {
  // O_NONBLOCK belongs to the open file, so setting it would hit every process that has it open.
  const fifo = join(scratchFolder(), 'stderr');
  await runTool('mkfifo', [fifo]);
  const ours = openSync(fifo, constants.O_RDWR);
  try {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const { daemon } = await startMute(upstream, { stderr: ours });
    expect(readlinkSync(`/proc/self/fd/${ours}`)).toBe(fifo);
    expect(flagsOf(ours) & constants.O_NONBLOCK).toBe(0);
    await daemon.stop();
    expect(flagsOf(ours) & constants.O_NONBLOCK).toBe(0);
  } finally {
    closeSync(ours);
  }
});

test.for(['>', '>>'])('a file that it shares with others by %s keeps every line, in order', async (redirection) => {
  const file = join(scratchFolder(), 'log');
  await runTool('sh', ['-c', `{ echo start; "$1" --nonsense; echo end; "$1" --nonsense; echo "the end"; } ${redirection}"$2" 2>&1`, 'sh', launcher, file]);
  expect(readFileSync(file, 'utf8')).toMatch(/^start\n\S+Z responses-api-proxy: .*\n\S+Z hint: .*\nend\n\S+Z responses-api-proxy: .*\n\S+Z hint: .*\nthe end\n$/);
});

test('so does a pipe', async () => {
  const { stdout } = await runTool('sh', ['-c', '{ echo start; "$1" --nonsense; echo end; } 2>&1', 'sh', launcher]);
  expect(stdout).toMatch(/^start\nresponses-api-proxy: .*\nhint: .*\nend\n$/);
});

test('a file that it shares with others, at the limit of its size, does no harm', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const file = join(scratchFolder(), 'log');
  writeFileSync(file, '.'.repeat(1024));
  const { daemon } = await startMute(upstream, { prefix: shell(`exec 2>>'${file}'; ulimit -f 1`) });
  await expectUnharmed(daemon, upstream);
});

function flagsOf(descriptor: number): number {
  const info = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8');
  return Number.parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '', 8);
}

/** Writes until the pipe takes no more. */
function fill(descriptor: number): void {
  const page = Buffer.alloc(4096, '.');
  for (const size of [4096, 1]) {
    for (;;) {
      try {
        writeSync(descriptor, page, 0, size);
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') break;
        throw error;
      }
    }
  }
}
