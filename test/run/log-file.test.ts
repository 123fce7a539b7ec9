import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launcher } from '../support/daemon-paths.ts';
import { launch, listeningOn, nobody, randomKey, runToExit, shell, startDaemon, type Daemon } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { within } from '../support/wait.ts';

/** Resolves once the file's text matches. Polls: another process's write is no event here. */
async function textOf(file: string, pattern: RegExp): Promise<string> {
  const look = async (): Promise<string> => {
    for (;;) {
      const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
      if (pattern.test(text)) return text;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  return within(look(), `${pattern} in ${file}`);
}

async function startLogged(file: string, options: Parameters<typeof launch>[0] = {}): Promise<Daemon> {
  const running = launch({ ...options, args: ['--log-file', file, ...(options.args ?? [])] });
  const [, port] = /listening on 127\.0\.0\.1:(\d+)/.exec(await textOf(file, /listening on/)) ?? [];
  return listeningOn(running, Number(port));
}

test('what would go to stderr is appended to the file, which is 0600 under any umask', async () => {
  const file = join(scratchFolder(), 'log');
  const first = await startLogged(file, { prefix: shell('umask 000') });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  await ask(first.port, { target: '/other' });
  await textOf(file, /refused \(endpoint_not_allowed\)/);
  const exit = await first.stop();
  expect(exit).toMatchObject({ code: 0, stdout: '', stderr: '' });
  const before = readFileSync(file, 'utf8');
  const second = await startLogged(file);
  await second.stop();
  expect(readFileSync(file, 'utf8').startsWith(before)).toBe(true);
});

test('each line begins with its time, in UTC (RFC 3339)', async () => {
  const file = join(scratchFolder(), 'log');
  const before = new Date().toISOString();
  const daemon = await startLogged(file, { env: { TZ: 'Asia/Tokyo' } });
  await ask(daemon.port, { target: '/other' });
  await textOf(file, /refused/);
  await daemon.stop();
  expect(refusalOf(await runToExit({ args: ['--log-file', file, '--policy', join(scratchFolder(), 'none')] }), 1)).toContain('--policy');
  const after = new Date().toISOString();
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  expect(lines.length).toBeGreaterThanOrEqual(4);
  expect(lines.at(-1)).toContain('hint: ');
  for (const line of lines) {
    const [, time = ''] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (responses-api-proxy|hint)/.exec(line) ?? [];
    expect([before, time, after], line).toEqual([before, time, after].sort());
    expect(time).not.toBe('');
  }
});

test('once listening it holds none of the standard streams it was given', async (context) => {
  needs(context, 'root');
  const daemon = await startLogged(join(scratchFolder(), 'log'));
  for (const descriptor of [0, 1, 2]) expect(readlinkSync(`/proc/${daemon.pid}/fd/${descriptor}`)).toBe('/dev/null');
  expect(await within(ended(daemon), 'the end of its stdout and stderr')).toBe(true);
  expect(daemon.exit).toBeUndefined();
});

/** Resolves once both pipes have ended, so no process holds the other side. */
async function ended({ child }: Daemon): Promise<boolean> {
  await Promise.all([child.stdout, child.stderr].map((pipe) => (pipe === null || pipe.readableEnded ? undefined : new Promise((resolve) => pipe.once('end', resolve)))));
  return true;
}

test('SIGUSR2 opens the file again, after it was renamed', async () => {
  const folder = scratchFolder();
  const [file, rotated] = [join(folder, 'log'), join(folder, 'log.1')];
  const daemon = await startLogged(file);
  renameSync(file, rotated);
  daemon.signal('SIGUSR2');
  await within((async () => { while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5)); })(), 'the new file');
  await ask(daemon.port, { target: '/other' });
  await textOf(file, /refused/);
  expect(readFileSync(rotated, 'utf8')).not.toContain('refused');
});

test('with --run-as it still can', async (context) => {
  needs(context, 'root');
  const folder = join(scratchFolder(), 'logs');
  mkdirSync(folder, { mode: 0o777 });
  const file = join(folder, 'log');
  const daemon = await startLogged(file, { args: ['--run-as', 'nobody'] });
  expect(statSync(file).uid).toBe(nobody.uid);
  daemon.signal('SIGUSR2');
  await ask(daemon.port, { target: '/other' });
  await textOf(file, /refused/);
});

test('a file that cannot be opened ends the start, with a hint', async () => {
  const folder = scratchFolder();
  const link = join(folder, 'link');
  writeFileSync(join(folder, 'target'), '');
  symlinkSync(join(folder, 'target'), link);
  for (const file of [folder, join(folder, 'none', 'log'), link]) {
    expect(refusalOf(await runToExit({ args: ['--log-file', file] }), 1)).toContain('--log-file');
  }
});

test('a failure to start is reported on stderr too, where a user still sees it', async () => {
  const file = join(scratchFolder(), 'log');
  const taken = await startDaemon();
  const exit = await runToExit({ args: ['--log-file', file, '--port', String(taken.port)] });
  expect(refusalOf(exit, 1)).toContain('cannot bind');
  expect(readFileSync(file, 'utf8')).toContain('cannot bind');
});

test('another user\'s file in a folder that every user can write is refused, and left as it is', async (context) => {
  needs(context, 'root');
  const folder = join(scratchFolder(), 'open');
  mkdirSync(folder);
  const file = join(folder, 'log');
  writeFileSync(file, 'planted\n', { mode: 0o666 });
  chownSync(file, 12_345, 12_345);
  for (const mode of [0o777, 0o1777]) {
    chmodSync(folder, mode);
    for (const args of [[], ['--check']]) expect(refusalOf(await runToExit({ args: ['--log-file', file, ...args] }), 1)).toContain('belongs to another user');
  }
  expect(readFileSync(file, 'utf8')).toBe('planted\n');
  chmodSync(folder, 0o755);
  await (await startLogged(file)).stop();
});

test('a terminal is let go of as well', async (context) => {
  needs(context, 'root', 'command script');
  const folder = scratchFolder();
  const [info, file] = ['info.json', 'log'].map((name) => join(folder, name)) as [string, string];
  launch({ launcher: 'script', args: ['-qec', `echo '${randomKey()}' | '${launcher}' --log-file '${file}' --server-info '${info}'`, '/dev/null'], stdin: () => {} });
  await textOf(file, /listening on/);
  const { pid } = JSON.parse(readFileSync(info, 'utf8')) as { pid: number };
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  process.kill(pid);
  expect(open.filter((path) => /pts|tty/.test(path))).toEqual([]);
});
