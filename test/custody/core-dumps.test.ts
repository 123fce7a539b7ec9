import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readdirSync } from 'node:fs';
import { describe, expect, test, type TestContext } from 'vitest';
import { nobody, shell, startDaemon } from '../support/daemon.ts';
import { denying } from '../support/deny.ts';
import { statusOf } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

// The daemon goes to /, where only root could leave a core file. So it gets a / that everybody can write to, and looks like the real one.

/** A `prefix` for that, in a mount namespace of its own. */
function withRoot(root: string, user: { uid: number; gid: number }): readonly string[] {
  return ['prlimit', '--core=unlimited', 'unshare', '--mount', ...shell(`set -e
    mount --make-rprivate / # nothing of this is seen outside
    cd /
    for name in *; do
      if [ -L "$name" ]; then cp -P "$name" '${root}'
      elif [ -d "$name" ]; then mkdir '${root}'/"$name" && mount --rbind "/$name" '${root}'/"$name"
      fi
    done
    set -- chroot --userspec=${user.uid}:${user.gid} '${root}' "$@"`)];
}

const coresIn = (root: string): string[] => readdirSync(root).filter((name) => name.startsWith('core'));

function rootForAll(): string {
  const root = scratchFolder();
  chmodSync(root, 0o777);
  return root;
}

/** The control: an unprotected process leaves a core file. Where it does not, the test would prove nothing. */
async function needsCores(context: TestContext): Promise<void> {
  const root = rootForAll();
  const [command = '', ...args] = [...withRoot(root, nobody), 'sleep', '60'];
  const child = spawn(command, args, { cwd: '/', stdio: 'ignore' });
  await expect.poll(() => child.exitCode !== null || statusOf(child.pid ?? 0, 'Name') === 'sleep').toBe(true);
  child.kill('SIGABRT');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  skipUnless(context, coresIn(root).length > 0, 'this system writes no core files into the working folder');
}

const root = { uid: 0, gid: 0 } as const;
const who: Record<string, [user: typeof nobody | typeof root, args: readonly string[]]> = {
  'a user\'s daemon': [nobody, []],
  'root\'s daemon': [root, []],
  'one that gave up root': [root, ['--run-as', 'nobody']],
};

describe.for(Object.entries(who))('%s leaves no core file', ([, [user, args]]) => {
  test.for<NodeJS.Signals>(['SIGABRT', 'SIGSYS'])('killed by %s', async (signal, context) => {
    needs(context, 'root and a build that other users can run', 'command prlimit', 'command unshare');
    await needsCores(context);
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const folder = rootForAll();
    const daemon = await startDaemon({ args: [...upstream.args, ...args], cwd: '/', prefix: [...await denying('landlock_create_ruleset=ENOSYS'), ...withRoot(folder, user)] }); // Landlock would hold back the file, too
    expect((await ask(daemon.port)).status).toBe(200);
    daemon.signal(signal);
    expect((await daemon.waitForExit()).signal).toBe(signal);
    expect(coresIn(folder)).toEqual([]);
  });
});
