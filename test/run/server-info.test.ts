import { chmodSync, chownSync, closeSync, existsSync, linkSync, lstatSync, mkdirSync, openSync, readFileSync, readlinkSync, statSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { cleanUp } from '../support/cleanup.ts';
import { ServerInfoFile } from '../../src/run/server-info.ts';
import { asUser } from '../support/as-user.ts';
import { failureOf } from '../support/command-line.ts';
import { launch, nobody, runToExit, shell, startDaemon, type Daemon, type DaemonOptions } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { runTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { freePort } from '../support/upstream.ts';
import { defaultWaitMs } from '../support/wait.ts';

/** Starts a daemon with --server-info FILE and waits until FILE is written. */
async function startWith(file: string, options: DaemonOptions = {}): Promise<Daemon> {
  const daemon = await startDaemon({ ...options, args: ['--server-info', file, '--http-shutdown', ...(options.args ?? [])] });
  await vi.waitFor(() => expect(readFileSync(file, 'utf8')).not.toBe(''), { timeout: defaultWaitMs, interval: 5 });
  return daemon;
}

function modeOf(path: string): number {
  return statSync(path).mode & 0o7777;
}

const lineOf = ({ port, pid }: { port: number; pid: number }): string => `{"port":${port},"pid":${pid}}\n`;

describe('what it holds', () => {
  test('one line, the port and the pid of the process that was started: a reader can connect at once', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    const daemon = await startWith(file);
    expect(readFileSync(file, 'utf8')).toBe(lineOf(daemon));
    expect((await ask(daemon.port, { method: 'GET' })).status).toBe(403);
  });

  test('a reader at any moment sees nothing or all of it', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, '');
    const running = launch({ args: ['--server-info', file] });
    await new Promise((resolve) => running.child.stdin?.once('finish', resolve));
    // Reads without a pause, so that a line written in two pieces would be noticed. Tracing the daemon is not allowed.
    const deadline = performance.now() + defaultWaitMs;
    let seen = '';
    while (seen === '' && performance.now() < deadline) seen = readFileSync(file, 'utf8');
    const [, port] = await running.waitForStderr(/listening on 127\.0\.0\.1:(\d+)/);
    expect(seen).toBe(lineOf({ port: Number(port), pid: running.pid }));
  });
});

const info = { port: 12_345, pid: 6_789 };

/** What becomes of the file, asked of the class that writes it. */
function write(file: string): ServerInfoFile {
  const own = new ServerInfoFile(file, file);
  own.write(info, undefined);
  return own;
}

function withUmask<T>(umask: number, act: () => T): T {
  const before = process.umask(umask);
  try {
    return act();
  } finally {
    process.umask(before);
  }
}

describe('a new file', () => {
  test.for([0o000, 0o022, 0o077, 0o027])('is 0644 under umask %o', (umask) => {
    const file = join(scratchFolder(), 'server-info.json');
    withUmask(umask, () => write(file));
    expect(modeOf(file)).toBe(0o644);
  });

  test('gets the parent folders it needs, under any umask, and they stay', async () => {
    const file = join(scratchFolder(), 'a', 'b c', 'd', 'server-info.json');
    const daemon = await startWith(file, { prefix: shell('umask 077') });
    expect(readFileSync(file, 'utf8')).toBe(lineOf(daemon));
    await daemon.stop();
    expect(existsSync(file)).toBe(false);
    expect(existsSync(dirname(file))).toBe(true);
  });

  test('may have a relative path', async () => {
    const folder = scratchFolder();
    const daemon = await startDaemon({ args: ['--server-info', 'info/here.json'], cwd: folder });
    expect(readFileSync(join(folder, 'info/here.json'), 'utf8')).toBe(lineOf(daemon));
    await daemon.stop();
    expect(existsSync(join(folder, 'info/here.json'))).toBe(false);
  });
});

describe('a file that exists', () => {
  test.for([0o600, 0o640, 0o666, 0o644])('is written in place and keeps its mode %o', (mode) => {
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, '');
    chmodSync(file, mode);
    const { ino } = statSync(file);
    withUmask(0o077, () => write(file));
    expect(readFileSync(file, 'utf8')).toBe(lineOf(info));
    expect(modeOf(file)).toBe(mode);
    expect(statSync(file).ino).toBe(ino);
  });

  test('keeps its owner', (context) => {
    needs(context, 'root');
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, '');
    chownSync(file, nobody.uid, nobody.gid);
    write(file);
    expect(readFileSync(file, 'utf8')).toBe(lineOf(info));
    expect(statSync(file)).toMatchObject(nobody);
  });

  test('loses what it held', () => {
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, `${'x'.repeat(10_000)}\n`);
    write(file);
    expect(readFileSync(file, 'utf8')).toBe(lineOf(info));
  });

  test.for([['is enough, even in a folder that the daemon may not write', 0o666], ['may have become read-only by the end, and that is no error', 0o400]] as const)('%s', async ([, mode], context) => {
    needs(context, 'root and a build that other users can run');
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, '');
    chmodSync(file, 0o666);
    const daemon = await startWith(file, { user: nobody });
    chmodSync(file, mode);
    // It has no right to remove the file at the end, which is no error.
    expect((await daemon.stop()).code).toBe(0);
    expect(readFileSync(file, 'utf8')).toBe(lineOf(daemon));
    expect(modeOf(file)).toBe(mode);
  });
});

describe('what is refused', () => {
  const refusing = async (file: string): Promise<string> => (await failureOf(() => write(file), 1)).message;

  test('a symlink to a file', async () => {
    const folder = scratchFolder();
    const target = join(folder, 'precious');
    const file = join(folder, 'server-info.json');
    writeFileSync(target, 'precious');
    symlinkSync(target, file);
    expect(await refusing(file)).toContain(file);
    expect(readFileSync(target, 'utf8')).toBe('precious');
    expect(readlinkSync(file)).toBe(target);
  });

  test('a dangling symlink', async () => {
    const folder = scratchFolder();
    const file = join(folder, 'server-info.json');
    symlinkSync(join(folder, 'nowhere'), file);
    expect(await refusing(file)).toContain(file);
    expect(existsSync(join(folder, 'nowhere'))).toBe(false);
  });

  test('a file with a second hard link', async () => {
    const folder = scratchFolder();
    const file = join(folder, 'server-info.json');
    const precious = join(folder, 'precious');
    writeFileSync(precious, 'precious');
    linkSync(precious, file);
    expect(await refusing(file)).toContain(file);
    expect(readFileSync(precious, 'utf8')).toBe('precious');
  });

  // Where it waited, so would this process.
  test('a FIFO, without waiting for its other end', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    await runTool('mkfifo', [file]);
    expect(refusalOf(await runToExit({ args: ['--server-info', file] }), 1)).toContain(file);
    expect(lstatSync(file).isFIFO()).toBe(true);
  });

  test('a FIFO with a reader', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    await runTool('mkfifo', [file]);
    const reader = openSync(file, 'r+'); // which never blocks
    cleanUp(() => closeSync(reader));
    expect(await refusing(file)).toContain(file);
  });

  test('a folder', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    mkdirSync(file);
    expect(await refusing(file)).toContain(file);
  });

  test('a socket', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(file, resolve));
    cleanUp(() => server.close());
    expect(await refusing(file)).toContain(file);
  });

  test('a device', async () => {
    expect(await refusing('/dev/null')).toContain('/dev/null');
    expect(lstatSync('/dev/null').isCharacterDevice()).toBe(true);
  });

  test('a path through a file', async () => {
    const folder = scratchFolder();
    writeFileSync(join(folder, 'file'), 'precious');
    expect(await refusing(join(folder, 'file', 'server-info.json'))).toContain('server-info');
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('precious');
  });

  test('a folder that may not be written', async (context) => {
    needs(context, 'root');
    const file = join(scratchFolder(), 'server-info.json');
    expect((await failureOf(() => asUser(nobody, () => write(file)), 1)).message).toContain(file);
    expect(existsSync(file)).toBe(false);
  });
});

describe('a file that names a daemon which is running', () => {
  test('is overwritten, and that is said', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    const { pid, port } = await startWith(file);
    const next = await startWith(file);
    expect(next.stderr).toContain(`--server-info ${file} names a daemon that is running (pid ${pid}, port ${port}); it is to name this one\n`);
    expect(readFileSync(file, 'utf8')).toBe(lineOf(next));
  });

  test('is one whose process is a daemon, and whose port is listened on', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    const { pid, port } = await startDaemon();
    const free = await freePort();
    const named = (info: unknown): unknown => {
      writeFileSync(file, JSON.stringify(info));
      return new ServerInfoFile(file, file).liveDaemon();
    };
    expect(named({ pid, port })).toEqual({ pid, port });
    for (const other of [{ pid, port: free }, { pid: process.pid, port }, { pid: 2 ** 22 + 1, port }, { pid: String(pid), port }, { pid, port: `${port}` }, { pid: -1, port }, {}, [], null, 'x']) {
      expect(named(other), JSON.stringify(other)).toBe(undefined);
    }
  });
});

describe('on exit', () => {
  test('it is removed after SIGTERM', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    const daemon = await startWith(file);
    expect((await daemon.stop()).code).toBe(0);
    expect(existsSync(file)).toBe(false);
  });

  test('it is removed after /shutdown', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    const daemon = await startWith(file);
    expect((await ask(daemon.port, { method: 'GET', target: '/shutdown' })).status).toBe(200);
    expect((await daemon.waitForExit()).code).toBe(0);
    expect(existsSync(file)).toBe(false);
  });

  test.for([false, true])('so is one that was there before: %s', (isThere) => {
    const file = join(scratchFolder(), 'server-info.json');
    if (isThere) writeFileSync(file, '');
    write(file).remove(info.pid);
    expect(existsSync(file)).toBe(false);
  });

  const foreign: Record<string, (own: string) => string> = {
    'another daemon\'s line': () => '{"port":1,"pid":1}\n',
    'our pid as the beginning of another': (own) => own.replace(/"pid":(\d+)/, '"pid":$10'),
    'nothing': () => '',
    'something else': () => 'precious\n',
  };
  test.for(Object.entries(foreign))('it stays if it holds %s by then', ([, content]) => {
    const file = join(scratchFolder(), 'server-info.json');
    const own = write(file);
    const text = content(lineOf(info));
    writeFileSync(file, text);
    own.remove(info.pid);
    expect(readFileSync(file, 'utf8')).toBe(text);
  });

  test('a symlink that took its place is not followed', () => {
    const folder = scratchFolder();
    const file = join(folder, 'server-info.json');
    const other = join(folder, 'other.json');
    const own = write(file);
    writeFileSync(other, lineOf(info));
    unlinkSync(file);
    symlinkSync(other, file);
    own.remove(info.pid);
    expect(readFileSync(other, 'utf8')).toBe(lineOf(info));
    expect(readlinkSync(file)).toBe(other);
  });

  test('a FIFO that took its place does not hold the exit up', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    const daemon = await startWith(file);
    unlinkSync(file);
    await runTool('mkfifo', [file]);
    expect((await daemon.stop()).code).toBe(0);
    expect(lstatSync(file).isFIFO()).toBe(true);
  });

  test('that it is gone already is no error', () => {
    const file = join(scratchFolder(), 'server-info.json');
    const own = write(file);
    unlinkSync(file);
    own.remove(info.pid);
  });
});

test('a start that fails leaves no file behind', async () => {
  const taken = await startDaemon();
  const file = join(scratchFolder(), 'server-info.json');
  expect((await runToExit({ args: ['--port', String(taken.port), '--server-info', file] })).code).toBe(1);
  expect((await runToExit({ args: ['--server-info', file], stdin: '' })).code).toBe(1);
  expect((await runToExit({ args: ['--server-info', file, '--nonsense'] })).code).toBe(2);
  expect(existsSync(file)).toBe(false);
});

test('where it cannot be written, the start ends, and leaves no empty file', async (context) => {
  needs(context, 'command prlimit');
  const file = join(scratchFolder(), 'info.json');
  expect(refusalOf(await runToExit({ args: ['--server-info', file], prefix: ['prlimit', '--fsize=0'] }), 1)).toContain(file);
  expect(existsSync(file)).toBe(false);
});
