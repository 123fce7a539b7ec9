import { chmodSync, existsSync, lchownSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { launch, nobody, runToExit, shell, startDaemon, type Daemon, type DaemonOptions, type Running } from '../support/daemon.ts';
import { denying } from '../support/deny.ts';
import { type Call, type Outcome, errno, inject, needsInjection } from '../support/inject.ts';
import { refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

// Files and connections, as code inside the daemon finds them. What Landlock forbids fails with EACCES, what stage two forbids with EPERM.

const [appending, creating, reading] = [0o2001, 0o2301, 0];

const openat = (file: string, flags: number): Call => [257, -100, file, flags, 0o600];

let folder: string;

beforeEach(() => {
  folder = scratchFolder();
  for (const name of ['logs', 'elsewhere']) mkdirSync(join(folder, name));
  writeFileSync(join(folder, 'elsewhere', 'precious'), 'precious');
});

/** A daemon with an audit log in `folder`, serving. */
function startLogged(options: DaemonOptions = {}): Promise<Daemon> {
  return startDaemon({ ...options, args: ['--audit-log', join(folder, 'logs', 'log'), ...(options.args ?? [])] });
}

/** Asked of one daemon: the kernel stays the same. */
let hasLandlock: boolean | undefined;

/** Landlock is not everywhere; where it is not, the daemon says so. */
async function needsLandlock(context: Parameters<typeof needs>[0]): Promise<void> {
  needsInjection(context);
  hasLandlock ??= !(await startDaemon()).stderr.includes('Landlock');
  skipUnless(context, hasLandlock, 'this kernel has no Landlock, or not one that restricts ports');
}

const written = (outcome: Outcome | undefined): boolean => typeof outcome === 'number' && outcome >= 0;

describe('without a log', () => {
  test('no file is opened for writing, wherever', async (context) => {
    needsInjection(context);
    const info = join(folder, 'logs', 'info.json');
    const { pid } = await startDaemon({ args: ['--server-info', info] });
    const precious = join(folder, 'elsewhere', 'precious');
    const outcomes = await inject(pid, [openat(precious, appending), openat(join(folder, 'new'), creating), openat(info, appending), openat('/dev/null', appending), openat(precious, reading)]);
    expect(outcomes.slice(0, 4)).toEqual(Array(4).fill(errno.EPERM));
    expect(written(outcomes[4])).toBe(true);
  });

  test('the server-info file is still removed at the end', async () => {
    const info = join(folder, 'made', 'for it', 'info.json');
    const daemon = await startDaemon({ args: ['--server-info', info] });
    expect(JSON.parse(readFileSync(info, 'utf8'))).toMatchObject({ port: daemon.port });
    expect((await daemon.stop()).code).toBe(0);
    expect(existsSync(info)).toBe(false);
  });

  test('other files are not removed', async (context) => {
    await needsLandlock(context);
    const { pid } = await startDaemon({ args: ['--server-info', join(folder, 'logs', 'info.json')] });
    expect(await inject(pid, [[87, join(folder, 'elsewhere', 'precious')], [263, -100, join(folder, 'elsewhere', 'precious'), 0]])).toEqual([errno.EACCES, errno.EACCES]);
    expect(existsSync(join(folder, 'elsewhere', 'precious'))).toBe(true);
  });

  test('beside a folder that was made for the server-info file, none are', async (context) => {
    await needsLandlock(context);
    const { pid } = await startDaemon({ args: ['--server-info', join(folder, 'made', 'info.json')] });
    expect(await inject(pid, [[87, join(folder, 'elsewhere', 'precious')]])).toEqual([errno.EACCES]);
  });
});

describe.for(['--audit-log', '--server-info'])('who swaps a folder on the way of %s, between the starter and the daemon,', (flag) => {
  test.for([['link', 'folder'], ['folder', 'link']] as const)('from a %s to a %s, cannot have another opened', async ([first, second], context) => {
    await needsLandlock(context);
    chmodSync(folder, 0o755);
    const [home, elsewhere] = [join(folder, 'home'), join(folder, 'elsewhere')];
    mkdirSync(join(home, 'folder'), { recursive: true });
    symlinkSync(folder, join(home, 'link')); // above both, or the daemon could not open its own file
    for (const path of [home, join(home, 'folder'), join(home, 'link')]) lchownSync(path, nobody.uid, nobody.gid);
    renameSync(join(home, first), join(home, 'on the way'));
    const running = launch({ args: [flag, join(home, 'on the way', 'file')] });
    if (await isStoppedAsNode(running)) {
      renameSync(join(home, 'on the way'), join(home, first));
      renameSync(join(home, second), join(home, 'on the way'));
      running.signal('SIGCONT');
    }
    if (await hasStarted(running)) {
      const outcomes = await inject(running.pid, [openat(join(elsewhere, 'new'), creating), [87, join(elsewhere, 'precious')]]);
      expect(outcomes.filter(written)).toEqual([]);
    }
    expect(readdirSync(elsewhere)).toEqual(['precious']);
    expect(readdirSync(folder).sort()).toEqual(['elsewhere', 'home', 'logs']);
  });
});

/** Stops it right after the starter became node; false if it has ended before. */
async function isStoppedAsNode(running: Running): Promise<boolean> {
  while (running.exit === undefined) {
    if (programOf(running.pid).endsWith('/node')) return running.child.kill('SIGSTOP');
    await new Promise((resolve) => setImmediate(resolve));
  }
  return false;
}

/** '' where it has none any more. */
function programOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return '';
  }
}

/** Whether it came to listen, and did not end before. */
async function hasStarted(running: Running): Promise<boolean> {
  return Promise.race([running.waitForStderr(/listening on/).then(() => true, () => false), running.exited.then(() => false)]);
}

describe('with a log', () => {
  test('files are opened for writing in its folder, and nowhere else', async (context) => {
    await needsLandlock(context);
    const { pid } = await startLogged();
    const outcomes = await inject(pid, [
      openat(join(folder, 'logs', 'log'), appending), openat(join(folder, 'logs', 'new'), creating),
      openat(join(folder, 'elsewhere', 'precious'), appending), openat(join(folder, 'elsewhere', 'new'), creating), openat(join(folder, 'new'), creating),
    ]);
    expect(outcomes.slice(0, 2).every(written)).toBe(true);
    expect(outcomes.slice(2)).toEqual(Array(3).fill(errno.EACCES));
  });

  test('with --unsafe-no-sandbox they are opened anywhere', async (context) => {
    needsInjection(context);
    const { pid } = await startLogged({ args: ['--unsafe-no-sandbox'] });
    expect((await inject(pid, [openat(join(folder, 'elsewhere', 'precious'), appending), openat(join(folder, 'new'), creating)])).every(written)).toBe(true);
  });

  test('a log that is opened anew is 0600 by a umask alone', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    for (const umask of ['000', '077', '777']) {
      const own = join(folder, umask);
      mkdirSync(own);
      const file = join(own, 'file');
      const daemon = await startDaemon({ prefix: shell(`umask ${umask}`), args: [...upstream.args, '--audit-log', file] });
      renameSync(file, `${file}.1`);
      daemon.signal('SIGUSR2');
      await expect.poll(() => existsSync(file)).toBe(true);
      expect((await ask(daemon.port)).status).toBe(200);
      expect([file, `${file}.1`].map((name) => statSync(name).mode & 0o777)).toEqual([0o600, 0o600]);
      const { code, stderr } = await daemon.stop();
      expect(code).toBe(0);
      expect(stderr).not.toMatch(/cannot|permitted/);
    }
  });

  test('relative paths and flags with = are understood', async () => {
    for (const args of [['--audit-log=logs/log'], ['--audit-log', './logs//log2'], ['--audit-log=log3']]) {
      await startDaemon({ args, cwd: folder });
      expect(existsSync(join(folder, args.at(-1)?.replace('--audit-log=', '') ?? ''))).toBe(true);
    }
  });

  test('a folder that is not there, or closed, ends the start', async (context) => {
    expect(refusalOf(await runToExit({ args: ['--audit-log', join(folder, 'none', 'log')] }), 1)).toMatch(/cannot open the folder of --audit-log .*: no such file or directory/);
    needs(context, 'root and a build that other users can run');
    chmodSync(folder, 0o755);
    chmodSync(join(folder, 'elsewhere'), 0o700);
    expect(refusalOf(await runToExit({ args: ['--audit-log', join(folder, 'elsewhere', 'log')], user: nobody }), 1)).toMatch(/permission denied/);
  });
});

describe('connections', () => {
  async function listenSomewhere(): Promise<number> {
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    cleanUp(() => server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    return (server.address() as AddressInfo).port;
  }

  /** connect(2) on a new TCP socket, in blocking mode. */
  async function connect(pid: number, port: number): Promise<Outcome | undefined> {
    const [socket] = await inject(pid, [[41, 2, 1, 0]]);
    if (typeof socket !== 'number') throw new Error('no socket');
    const [AF_INET, loopback] = [2, [127, 0, 0, 1]];
    return (await inject(pid, [[42, socket, Uint8Array.from([AF_INET, 0, port >> 8, port & 0xff, ...loopback, ...Array<number>(8).fill(0)]), 16]]))[0];
  }

  test('go to the ports of the upstream, the proxies and DNS alone', async (context) => {
    await needsLandlock(context);
    const [upstream, proxy, other, environmentProxy, lastProxy, socks] = [await listenSomewhere(), await listenSomewhere(), await listenSomewhere(), await listenSomewhere(), await listenSomewhere(), await listenSomewhere()];
    const args = ['--upstream-url', `https://localhost:${upstream}/v1/responses`, `--upstream-proxy=http://user:p%40ss@localhost:${proxy}`];
    const { pid } = await startDaemon({ args, env: { HTTPS_PROXY: `user:pass@localhost:${environmentProxy}`, all_proxy: `http://localhost:${lastProxy}`, ALL_PROXY: `socks5://localhost:${socks}` } });
    expect([await connect(pid, upstream), await connect(pid, proxy), await connect(pid, environmentProxy), await connect(pid, lastProxy)]).toEqual([0, 0, 0, 0]);
    expect(await connect(pid, socks)).toBe(errno.EACCES);
    expect(await connect(pid, 53)).not.toBe(errno.EACCES);
    expect(await connect(pid, other)).toBe(errno.EACCES);
    const { pid: free } = await startDaemon({ args: [...args, '--unsafe-no-sandbox'] });
    expect(await connect(free, other)).toBe(0);
  });

  test('with no port in a URL go to that of its scheme', async (context) => {
    await needsLandlock(context);
    for (const [url, port, other] of [['https://gateway.example/v1', 443, 80], ['http://127.0.0.1/v1', 80, 443], ['https://[::1]/v1:8080', 443, 8080], [undefined, 443, 80]] as const) {
      const { pid } = await startDaemon({ args: url === undefined ? [] : ['--upstream-url', url] });
      expect([await connect(pid, port), await connect(pid, other)], url).toEqual([errno.ECONNREFUSED, errno.EACCES]);
    }
  });
});

test('a path through what is no folder takes nothing from Landlock', async () => {
  for (const flag of ['--audit-log', '--server-info']) {
    const exit = await runToExit({ args: [flag, join(folder, 'elsewhere', 'precious', 'file')] });
    expect(exit.code).toBe(1);
    expect(exit.stderr).not.toContain('Landlock');
  }
});

test('it is not held up where the kernel has no Landlock: only a log lets files be written', async (context) => {
  needsInjection(context);
  const prefix = await denying('landlock_create_ruleset=ENOSYS');
  const { pid } = await startLogged({ prefix });
  expect((await inject(pid, [openat(join(folder, 'elsewhere', 'precious'), appending)])).every(written)).toBe(true);
  const { pid: unlogged } = await startDaemon({ prefix });
  expect(await inject(unlogged, [openat(join(folder, 'elsewhere', 'precious'), appending)])).toEqual([errno.EPERM]);
});
