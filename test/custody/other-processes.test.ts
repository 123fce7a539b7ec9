import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { beforeAll, describe, expect, test, type TestContext } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { launch, nobody, startDaemon, type Daemon, type DaemonOptions } from '../support/daemon.ts';
import { intrude, openWays } from '../support/intruder.ts';
import { nativeTool, runTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { isMet, needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const who: Record<string, DaemonOptions> = {
  'the same user': { user: nobody },
  'another user, for a daemon of root\'s': {},
  'the user of --run-as': { args: ['--run-as', 'nobody'] },
};

/** A daemon that has served, so that its key has been in use. */
async function inUse(options: DaemonOptions): Promise<Daemon> {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ ...options, args: [...upstream.args, ...(options.args ?? [])] });
  expect((await ask(daemon.port)).status).toBe(200);
  return daemon;
}

describe.for(Object.entries(who))('to %s', ([, options]) => {
  let shared: Daemon | undefined;

  beforeAll(async () => {
    if (isMet('root and a build that other users can run')) shared = await inUse(options);
  });

  function daemonOf(context: TestContext, ...commands: readonly `command ${string}`[]): Daemon {
    needs(context, 'root and a build that other users can run', ...commands);
    return shared as Daemon;
  }

  test('memory, environment, descriptors and mappings are closed, and it cannot be traced', async (context) => {
    const daemon = daemonOf(context, 'command cc');
    const ways = await intrude(daemon.pid, nobody);
    expect(ways.size).toBeGreaterThan(20);
    expect([...ways].filter(([, result]) => result === 'open')).toEqual([]);
    expect((await ask(daemon.port)).status).toBe(200);
  });

  test('gdb cannot attach', async (context) => {
    const daemon = daemonOf(context, 'command gdb');
    const { stdout, stderr } = await runTool('gdb', ['-nx', '-batch', '-p', String(daemon.pid), '-ex', 'info registers'], { user: nobody });
    expect(stderr).toMatch(/ptrace: Operation not permitted/);
    expect(stdout).not.toMatch(/^rip|^pc/m);
  });

  test('strace cannot attach', async (context) => {
    const daemon = daemonOf(context, 'command strace');
    const { code, stderr } = await runTool('strace', ['-f', '-p', String(daemon.pid)], { user: nobody });
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/Operation not permitted/);
  });
});

test('the same ways are open into a process that does nothing about it', async (context) => {
  needs(context, 'root', 'command cc');
  const child = spawn('sleep', ['60'], { ...nobody, stdio: 'ignore' });
  cleanUp(() => child.kill('SIGKILL'));
  expect(await openWays(child.pid ?? 0, nobody)).toEqual(expect.arrayContaining(['environ', 'maps', 'mem', 'fd', 'ptrace-attach', 'process_vm_readv', 'pidfd_getfd']));
});

test('a daemon is not reached through another one of the same user', async (context) => {
  needs(context, 'root and a build that other users can run', 'command cc');
  const daemons = [await inUse({ user: nobody }), await inUse({ user: nobody })];
  for (const { pid } of daemons) expect(await openWays(pid, nobody)).toEqual([]);
});

test('who opened its memory before it was closed does not see the key there', async (context) => {
  needs(context, 'root and a build that other users can run', 'command cc');
  const program = await nativeTool('early-bird', ['-std=c11', '-D_GNU_SOURCE']);
  const maxAttempts = 10;
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    const daemon = launch({ user: nobody });
    const bird = spawn(program, [String(daemon.pid), 'node'], { ...nobody, stdio: ['pipe', 'pipe', 'inherit'] });
    cleanUp(() => bird.kill('SIGKILL'));
    const lines = createInterface(bird.stdout)[Symbol.asyncIterator]();
    if ((await lines.next()).value !== 'in time') continue;
    await daemon.waitForStderr(/listening on/);
    bird.stdin.write(`dist/main.js\n${daemon.key}\n`);
    // The control first: it does see what is not secret.
    expect(Number((await lines.next()).value)).toBeGreaterThan(0);
    expect(Number((await lines.next()).value)).toBe(0);
    return;
  }
  context.skip('the daemon closed itself each time before it could be opened');
});
