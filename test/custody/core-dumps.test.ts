import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, readdirSync } from 'node:fs';
import { describe, expect, test, type TestContext } from 'vitest';
import { nobody, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { statusOf } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const unlimited = ['prlimit', '--core=unlimited'] as const;

function folderOfNobody(): string {
  const folder = scratchFolder();
  chownSync(folder, nobody.uid, nobody.gid);
  return folder;
}

/** The control: an unprotected process leaves a core file in its folder. Where it does not, the test would prove nothing. */
async function needsCores(context: TestContext): Promise<void> {
  const folder = folderOfNobody();
  const child = spawn(unlimited[0], [...unlimited.slice(1), 'sleep', '60'], { ...nobody, cwd: folder, stdio: 'ignore' });
  await expect.poll(() => statusOf(child.pid ?? 0, 'Name')).toBe('sleep');
  child.kill('SIGABRT');
  await once(child, 'exit');
  skipUnless(context, readdirSync(folder).some((name) => name.startsWith('core')), 'this system writes no core files into the working folder');
}

const who: Record<string, DaemonOptions> = {
  'a user\'s daemon': { user: nobody },
  'root\'s daemon': {},
  'one that gave up root': { args: ['--run-as', 'nobody'] },
};

describe.for(Object.entries(who))('%s leaves no core file', ([, options]) => {
  test.for<NodeJS.Signals>(['SIGABRT', 'SIGSYS'])('killed by %s', async (signal, context) => {
    needs(context, 'root and a build that other users can run', 'command prlimit');
    await needsCores(context);
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const folder = folderOfNobody();
    const daemon = await startDaemon({ ...options, args: [...upstream.args, ...(options.args ?? [])], cwd: folder, prefix: unlimited });
    expect((await ask(daemon.port)).status).toBe(200);
    daemon.signal(signal);
    const exit = await daemon.waitForExit();
    expect(exit.signal).toBe(signal);
    expect(readdirSync(folder)).toEqual([]);
  });
});
