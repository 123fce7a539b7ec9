import { chmodSync, chownSync, existsSync, linkSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { ServerInfoFile } from '../../src/run/server-info.ts';
import { findUsers } from '../../src/extras/users.ts';
import { failureOf, misuseOf, optionsOf } from '../support/command-line.ts';
import { nobody, runToExit, shell, startDaemon, type Daemon, type DaemonOptions } from '../support/daemon.ts';
import { expectNoPieceOf, refusalOf } from '../support/messages.ts';
import { builtNative } from '../support/native.ts';
import { ask, rawRequest, exchange } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';
import { defaultWaitMs } from '../support/wait.ts';

interface Issued {
  readonly daemon: Daemon;
  readonly file: string;
  readonly token: string;
}

/** A daemon that issued a token. Its server info is checked to be one line with exactly the three fields. */
async function issue(file = join(scratchFolder(), 'server-info.json'), options: DaemonOptions = {}): Promise<Issued> {
  const daemon = await startDaemon({ ...options, args: [...(options.args ?? []), '--issue-token', '--server-info', file] });
  const line = await vi.waitFor(() => {
    const text = readFileSync(file, 'utf8');
    expect(text).not.toBe('');
    return text;
  }, { timeout: defaultWaitMs, interval: 5 });
  const info = JSON.parse(line) as { token: string };
  expect(info).toEqual({ port: daemon.port, pid: daemon.pid, token: expect.any(String) });
  expect(line).toBe(`${JSON.stringify(info)}\n`);
  return { daemon, file, token: info.token };
}

const bearer = (token: string): { headers: [string, string][] } => ({ headers: [['Authorization', `Bearer ${token}`]] });

describe('the token', () => {
  test('opens the door, and nothing else does', async () => {
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const { daemon, file, token } = await issue(undefined, { args: [...upstream.args, '--http-shutdown'] });
    expect((await ask(daemon.port)).status).toBe(401);
    expect((await ask(daemon.port, bearer(`${token}A`))).status).toBe(401);
    expect((await ask(daemon.port, { method: 'GET', target: '/shutdown' })).status).toBe(401);
    expect(upstream.requests).toEqual([]);
    expect((await ask(daemon.port, bearer(token))).status).toBe(200);
    expect(upstream.requests[0]?.values('authorization')).toEqual([`Bearer ${daemon.key}`]);
    expectNoPieceOf(token, upstream.requests[0]?.rawHead ?? '');
    expect((await ask(daemon.port, { method: 'GET', target: '/shutdown', ...bearer(token) })).status).toBe(200);
    const exit = await daemon.waitForExit();
    expect(exit.code).toBe(0);
    expectNoPieceOf(token, exit.stderr + exit.stdout);
    expect(existsSync(file), 'it is gone with the daemon').toBe(false);
  });

  test('has 256 bits of a random generator, in characters of a bearer token, new at each start, and of no use at another daemon', async () => {
    const issued = await Promise.all([issue(), issue(), issue()]);
    const tokens = issued.map(({ token }) => token);
    expect((await ask(issued[0].daemon.port, bearer(issued[1].token))).status).toBe(401);
    expect(new Set(tokens).size).toBe(3);
    for (const token of tokens) {
      expect(token).toMatch(/^[A-Za-z0-9._~+/-]+=*$/);
      // 43 characters of base64 or 64 of hex hold 256 bits.
      expect(/^[0-9a-f]+$/.test(token) ? token.length * 4 : Math.floor(token.replace(/=+$/, '').length * 6)).toBeGreaterThanOrEqual(256);
    }
    // By chance two tokens begin with the same 3 characters once in 262,144 starts.
    expect(new Set(tokens.map((token) => token.slice(0, 3))).size).toBe(3);
  });

  test('is not shown by any refusal', async () => {
    const { daemon, token } = await issue();
    for (const request of [{}, { method: 'GET' }, bearer('x'), { host: 'evil.example' }]) expectNoPieceOf(token, (await ask(daemon.port, request)).rawHead + (await ask(daemon.port, request)).text());
    const response = await exchange(daemon.port, rawRequest(daemon.port, { target: '/', ...bearer(token) }));
    expectNoPieceOf(token, response.rawHead + response.text());
    await daemon.stop();
    expectNoPieceOf(token, daemon.stderr);
  });
});

const modeOf = (file: string): number => statSync(file).mode & 0o7777;

describe('a new file', () => {
  test.for(['000', '777'])('is 0600 under umask %s', async (umask) => {
    const { file } = await issue(undefined, { prefix: shell(`umask ${umask}`) });
    expect(modeOf(file)).toBe(0o600);
    expect(statSync(file).uid).toBe(process.getuid?.());
  });
});

describe('a file that is there already', () => {
  test('is used if it is 0600 and the daemon\'s user\'s', async () => {
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, 'stale', { mode: 0o600 });
    const before = statSync(file).ino;
    const { daemon, token } = await issue(file);
    expect(statSync(file).ino).toBe(before);
    expect(modeOf(file)).toBe(0o600);
    expect((await ask(daemon.port, bearer(token))).status).not.toBe(401);
  });

  const unfit: Record<string, (file: string) => void> = {
    ...Object.fromEntries(['644', '640', '604', '660', '666', '700', '400', '200', '601', '602', '610', '000'].map((mode): [string, (file: string) => void] => [`mode ${mode}`, (file) => {
      writeFileSync(file, '');
      chmodSync(file, Number.parseInt(mode, 8));
    }])),
    'a symbolic link to one that would do': (file) => {
      writeFileSync(`${file}.target`, '', { mode: 0o600 });
      symlinkSync(`${file}.target`, file);
    },
    'a dangling symbolic link': (file) => symlinkSync(`${file}.target`, file),
    'one of two names': (file) => {
      writeFileSync(`${file}.other`, '', { mode: 0o600 });
      linkSync(`${file}.other`, file);
    },
    'a folder': (file) => mkdirSync(file),
  };
  test.for(Object.entries(unfit))('is refused: %s', async ([, make]) => {
    const file = join(scratchFolder(), 'server-info.json');
    make(file);
    const { message } = await failureOf(() => new ServerInfoFile(file, file).write({ port: 1, pid: 1, token: 'secret' }, undefined), 1);
    expect(message).toContain(file);
    const stats = statSync(file, { throwIfNoEntry: false });
    if (stats?.isFile() === true) expect(stats.size).toBe(0); // not read: only root may read all of them
    expect(existsSync(`${file}.target`) ? readFileSync(`${file}.target`, 'utf8') : '').toBe('');
  });

  test('is refused, by the daemon too: another user\'s', async (context) => {
    needs(context, 'root');
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, 'theirs', { mode: 0o600 });
    chownSync(file, nobody.uid, nobody.gid);
    expect(refusalOf(await runToExit({ args: ['--issue-token', '--server-info', file] }), 1)).toContain(file);
    expect(readFileSync(file, 'utf8')).toBe('theirs');
  });
});

describe('root gives the file to the one --allow-user', () => {
  test.for([['a name', ['nobody']], ['a uid', [String(nobody.uid)]], ['both', ['nobody', String(nobody.uid)]], ['a uid without an account', ['12345']]] as const)('by %s', async ([, users], context) => {
    needs(context, 'root');
    const args = ['--issue-token', '--server-info', 'file', ...users.flatMap((user) => ['--allow-user', user])];
    expect(findUsers(await optionsOf(args), builtNative()).tokenOwner?.uid).toBe(users[0] === '12345' ? 12_345 : nobody.uid);
  });

  test('as a new one, with 0600', async (context) => {
    needs(context, 'root');
    const { file } = await issue(undefined, { args: ['--allow-user', 'nobody'] });
    expect({ mode: modeOf(file), uid: statSync(file).uid }).toEqual({ mode: 0o600, uid: nobody.uid });
  });

  test('and takes one that is there already and that user\'s', async (context) => {
    needs(context, 'root');
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, '', { mode: 0o600 });
    chownSync(file, nobody.uid, nobody.gid);
    await issue(file, { args: ['--allow-user', 'nobody'] });
    expect({ mode: modeOf(file), uid: statSync(file).uid }).toEqual({ mode: 0o600, uid: nobody.uid });
  });

  test.for([['that user\'s, but readable by others', nobody.uid, 0o644], ['the daemon\'s own', 0, 0o600], ['a third user\'s', 2, 0o600]] as const)('but refuses one that is %s', async ([, uid, mode], context) => {
    needs(context, 'root');
    const file = join(scratchFolder(), 'server-info.json');
    writeFileSync(file, '');
    chmodSync(file, mode);
    chownSync(file, uid, uid);
    const { message } = await failureOf(() => new ServerInfoFile(file, file).write({ port: 1, pid: 1, token: 'secret' }, { name: 'nobody', ...nobody }), 1);
    expect(message).toContain(file);
    expect(readFileSync(file, 'utf8')).toBe('');
  });

  test('and where it cannot, the start ends, and leaves nothing behind', async (context) => {
    needs(context, 'root', 'command setpriv');
    const file = join(scratchFolder(), 'server-info.json');
    const prefix = ['setpriv', '--inh-caps', '-chown', '--bounding-set', '-chown'];
    expect(refusalOf(await runToExit({ args: ['--issue-token', '--allow-user', 'nobody', '--server-info', file], prefix }), 1)).toContain(file);
    expect(existsSync(file)).toBe(false);
  });

  test('and refuses several, who could not all read it', async (context) => {
    needs(context, 'root');
    const exit = await runToExit({ args: ['--issue-token', '--allow-user', 'nobody', '--allow-user', 'root', '--server-info', join(scratchFolder(), 'x')] });
    expect(refusalOf(exit, 2)).toContain('--issue-token cannot reach several --allow-user');
    expect(exit.stderr).toMatch(/^hint: .*--client-token-file/m);
  });

  test('a plain user keeps it, whoever may ask', async (context) => {
    needs(context, 'root and a build that other users can run');
    const folder = join(scratchFolder(), 'theirs');
    mkdirSync(folder);
    chownSync(folder, nobody.uid, nobody.gid);
    const { file } = await issue(join(folder, 'server-info.json'), { user: nobody, args: ['--allow-user', 'root', '--allow-user', 'nobody'] });
    expect({ mode: modeOf(file), uid: statSync(file).uid }).toEqual({ mode: 0o600, uid: nobody.uid });
  });
});

describe('refused at start', () => {
  test('--issue-token without a file for it', async () => {
    expect((await misuseOf(['--issue-token'])).message).toContain('--server-info');
  });

  test('--issue-token beside --client-token-file', async () => {
    expect((await misuseOf(['--issue-token', '--server-info', 'x', '--client-token-file', 'y'])).message).toContain('--issue-token');
  });
});
