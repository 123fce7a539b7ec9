import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { launch, nobody, startDaemon, type Running } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { nativeTool } from '../support/native-tools.ts';
import { statusOf, statusOfThreads } from '../support/process.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { startUpstream } from '../support/upstream.ts';

// A tracer of any thread can have it write out all that the process can read, the locked memory included.

const tracerProgram = (): Promise<string> => nativeTool('thread-tracer', ['-std=c11', '-D_GNU_SOURCE']);

/** Traces a thread of node's own, not the main one; false where it came too late for that. */
async function traceThread(program: string, { pid }: Running, user?: typeof nobody): Promise<boolean> {
  const tracer = spawn(program, [String(pid), 'node'], { ...user, stdio: ['pipe', 'pipe', 'inherit'] });
  cleanUp(() => tracer.kill('SIGKILL'));
  const { value } = await createInterface(tracer.stdout)[Symbol.asyncIterator]().next();
  return value === 'tracing';
}

test('the same user, tracing a thread of node\'s from early on, does not get to see the key', async (context) => {
  needs(context, 'root and a build that other users can run', 'command cc');
  const program = await tracerProgram(); // now: compiling takes as long as a start
  const maxAttempts = 10;
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    const running = launch({ user: nobody, stdin: () => {} });
    if (!(await traceThread(program, running, nobody))) continue;
    // It ends although nothing has been written to stdin: before it would read the key.
    expect(refusalOf(await running.waitForExit(), 3)).toMatch(/tracing/);
    return;
  }
  context.skip('the daemon closed itself each time before it could be traced');
});

/** The system call that a process is waiting in, and its first argument: read(2) has another number on each architecture. */
function callOf(pid: number): string | undefined {
  return /^\d+ \S+/.exec(readFileSync(`/proc/${pid}/syscall`, 'latin1'))?.[0];
}

const readingStdin = `${process.arch === 'arm64' ? 63 : 0} 0x0`;

test('a tracer that comes to such a thread while the key is awaited ends the start right behind it', async (context) => {
  needs(context, 'root', 'command cc');
  // It must end before it does anything with the key: it would find the port taken.
  const running = launch({ args: ['--port', String((await startUpstream({ tls: false })).port)], stdin: () => {} });
  await expect.poll(() => callOf(running.pid), { interval: 5 }).toBe(readingStdin);
  expect(await traceThread(await tracerProgram(), running)).toBe(true);
  expect(statusOf(running.pid, 'TracerPid')).toBe('0');
  expect(statusOfThreads(running.pid, 'TracerPid').filter((tracer) => tracer !== '0')).toHaveLength(1);
  running.child.stdin?.end(`${running.key}\n`);
  const exit = await running.waitForExit();
  expect(refusalOf(exit, 3)).toMatch(/tracing/);
  expect(exit.stderr).not.toContain('listening on');
});

test('a tracer that was let in just before tracing was forbidden is waited for, by a filter on all threads', async (context) => {
  needs(context, 'root');
  skipUnless(context, readFileSync('/proc/self/status', 'latin1').includes('Seccomp_filters'), 'the kernel does not tell how many filters there are (Linux 5.9)');
  const running = launch({ stdin: () => {} });
  // The starter's filter, and the one that the kernel puts in place behind such a tracer.
  await expect.poll(() => statusOf(running.pid, 'Seccomp_filters'), { interval: 5 }).toBe('2');
  expect(new Set(statusOfThreads(running.pid, 'Seccomp_filters'))).toEqual(new Set(['2']));
});

test('threads that come and go while it looks are no reason to end', async () => {
  for (let start = 0; start < 5; start++) await (await startDaemon()).stop();
});
