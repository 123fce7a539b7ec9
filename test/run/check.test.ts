import { chmodSync, closeSync, lstatSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { beforeEach, describe, expect, test } from 'vitest';
import { check as connectAndTell } from '../../src/extras/check.ts';
import { caFile, identity, otherCaFile } from '../support/certificates.ts';
import { cleanUp } from '../support/cleanup.ts';
import { failureOf, optionsOf } from '../support/command-line.ts';
import { copyBuild } from '../support/copy-build.ts';
import { checkout } from '../support/daemon-paths.ts';
import { nobody, randomKey, runToExit, shell, startDaemon, type DaemonOptions, type Exit } from '../support/daemon.ts';
import { expectNoPieceOf, refusalOf } from '../support/messages.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { freePort, startUpstream, type Upstream } from '../support/upstream.ts';

const policyFile = join(checkout, 'scripts', 'policies', 'codex.json');

let upstream: Upstream;

beforeEach(async () => {
  upstream = await startUpstream();
});

/** Stdin stays open and says nothing: a check that read it would never end. */
function check(args: readonly string[], options: DaemonOptions = {}): Promise<Exit> {
  return runToExit({ ...options, args: ['--check', ...upstream.args, ...args], stdin: () => {} });
}

/** All that a folder holds, with what would show that it was touched. */
function stateOf(folder: string): unknown {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort().map((name) => {
    const { mode, uid, gid, mtimeMs, ctimeMs, size } = lstatSync(join(folder, name));
    return { name, mode, uid, gid, mtimeMs, ctimeMs, size };
  });
}

/** What was said of one thing. */
function said(exit: Exit, label: string): string[] {
  expect(exit.code, exit.stderr).toBe(0);
  return exit.stdout.split('\n').filter((line) => line.startsWith(`${label}  `)).map((line) => line.slice(label.length).trim());
}

describe('says what the daemon would do', () => {
  test('without flags', async () => {
    const exit = await check([]);
    expect(withoutAdvice(exit)).toBe('');
    expect(said(exit, 'listens on')).toEqual(['127.0.0.1, a free port']);
    expect(said(exit, 'serves')).toEqual(['POST /v1/responses']);
    expect(said(exit, 'to')).toEqual(['every user of this machine']);
    expect(said(exit, 'forwards to')).toEqual([upstream.url]);
    expect(said(exit, 'connected')).toEqual([`to localhost:${upstream.port}; its certificate is trusted (TLSv1.3); nothing was sent`]);
    expect(said(exit, 'the key in')).toEqual(['Authorization: Bearer']);
    expect(said(exit, 'proxy')).toEqual(['none']);
    expect(said(exit, 'keeps the key in')).toEqual([expect.stringMatching(/memfd_secret|memory/)]);
    expect([upstream.connections.length, upstream.receivedBytes]).toEqual([1, 0]);
  });

  test('with many', async () => {
    const folder = scratchFolder();
    const [info, audit] = ['info.json', 'audit.jsonl'].map((name) => join(folder, name)) as [string, string];
    const port = await freePort();
    const exit = await runToExit({ stdin: () => {}, args: [
      '--check', '--port', String(port), '--http-health', '--http-shutdown', '--allow-user', '12345', '--issue-token',
      '--server-info', info, '--audit-log', audit, '--expire-at', '2999-01-01T00:00:00Z', '--policy', policyFile, '--upstream-ca', caFile(),
      '--upstream-url', `${upstream.url}?api-key=hidden`, '--upstream-header', 'X-Team: hidden', '--auth-header', 'api-key',
    ] });
    expect(said(exit, 'listens on')).toEqual([`127.0.0.1, port ${port}`]);
    expect(said(exit, 'serves')).toEqual(['POST /v1/responses, GET /health, GET /shutdown']);
    expect(said(exit, 'to')).toEqual(['uid 12345 only']);
    expect(said(exit, 'token')).toEqual([expect.stringContaining('issued at start, in the --server-info file')]);
    expect(said(exit, 'forwards to')).toEqual([`${upstream.url}?...`]);
    expect(said(exit, 'the key in')).toEqual(['api-key']);
    expect(said(exit, 'records in')).toEqual([audit]);
    expect(said(exit, 'lends until')).toEqual(['2999-01-01T00:00:00.000Z']);
    expect(said(exit, 'note')).toEqual(['policy enforced']);
    expect(exit.stdout).not.toContain('hidden');
    expect(stateOf(folder)).toMatchObject([{ name: 'audit.jsonl', size: 0 }]);
  });

  test('as which user', async (context) => {
    needs(context, 'root');
    expect(said(await check(['--run-as', 'nobody']), 'runs as')).toEqual([`uid ${nobody.uid}`]);
    expect((await check([])).stderr).toContain('running as root; --run-as');
  });

  test('and what a start warns of', async () => {
    const folder = scratchFolder();
    const [token, shadow] = ['token', 'shadow.json'].map((name) => join(folder, name)) as [string, string];
    writeFileSync(token, 'abc\n');
    writeFileSync(shadow, '{"mode":"shadow","models":["gpt-*"]}');
    for (const args of [['--client-token-file', token], ['--policy', shadow]]) {
      const exit = await check(args);
      expect(exit.code).toBe(0);
      const start = await startDaemon({ args: [...upstream.args, ...args] });
      const warnings = start.stderr.split('\n').filter((line) => /token|without --audit-log/.test(line));
      expect(warnings).toHaveLength(1);
      expect(exit.stderr).toContain(warnings[0]);
    }
  });

  test('about files with control characters in their names', async () => {
    const exit = await check(['--audit-log', join(scratchFolder(), 'a\x1b[2J\nlistening')]);
    expect(exit.stdout + exit.stderr).not.toMatch(/\x1b|^listening/m);
  });
});

test('a key on stdin is not read', async () => {
  const file = join(scratchFolder(), 'key');
  writeFileSync(file, `${randomKey()}\n`);
  const fd = openSync(file, 'r');
  cleanUp(() => closeSync(fd));
  expect((await runToExit({ args: ['--check', ...upstream.args], stdin: fd })).code).toBe(0);
  const rest = Buffer.alloc(1024);
  expect(rest.toString('latin1', 0, readSync(fd, rest, 0, rest.length, null))).toBe(readFileSync(file, 'latin1'));
});

test('the port of a daemon that runs is none of its business', async () => {
  const daemon = await startDaemon();
  expect((await check(['--port', String(daemon.port)])).code).toBe(0);
});

test('files that exist are left as they are', async () => {
  const folder = scratchFolder();
  const [info, audit] = ['info.json', 'audit.jsonl'].map((name) => join(folder, name)) as [string, string];
  const args = ['--server-info', info, '--audit-log', audit, '--policy', policyFile];
  await (await startDaemon({ args })).stop();
  writeFileSync(info, '{"port":1,"pid":1}\n');
  const torn = readFileSync(audit, 'latin1');
  for (const text of [torn, `${torn}{"kind":"request","ti`]) {
    writeFileSync(audit, text);
    const before = stateOf(folder);
    expect((await check(args)).code).toBe(0);
    expect(stateOf(folder)).toEqual(before);
  }
});

describe('ends as the start would', () => {
  test('where it could not forward', async () => {
    const folder = scratchFolder();
    const launcher = copyBuild(folder);
    for (const parser of ['llhttp_simd-wasm.js', 'llhttp-wasm.js']) rmSync(join(folder, 'node_modules', 'undici', 'lib', 'llhttp', parser));
    expect(refusalOf(await check([], { launcher }), 1)).toMatch(/HTTP client/);
  });

  test('where the loan is over and the policy is broken as well', async () => {
    const policy = join(scratchFolder(), 'policy.json');
    writeFileSync(policy, 'no JSON');
    const args = ['--policy', policy, '--expire-at', '2001-01-01T00:00:00Z'];
    expect(refusalOf(await check(args), 1)).toEqual(refusalOf(await runToExit({ args }), 1));
  });

  /** In a folder that has: a text file, a link to nowhere, and a file that all may write. */
  test.for<readonly string[]>([
    ['--nope'],
    ['--client-token-file', 'none'],
    ['--audit-log', 'text'],
    ['--server-info', 'dangling'],
    ['--server-info', 'open', '--issue-token'],
  ])('%j', async (args) => {
    const cwd = scratchFolder();
    writeFileSync(join(cwd, 'text'), 'text\n', { mode: 0o600 });
    symlinkSync('nowhere', join(cwd, 'dangling'));
    writeFileSync(join(cwd, 'open'), '');
    chmodSync(join(cwd, 'open'), 0o666);
    const before = stateOf(cwd);
    const checked = await check(args, { cwd });
    refusalOf(checked, [1, 2]);
    expect(stateOf(cwd)).toEqual(before);
    expect(checked).toEqual(await runToExit({ args, cwd, stdin: () => {} })); // before it reads the key
  });

  test.for(['--audit-log', '--server-info'])('where a user may not write, %s', async (flag, context) => {
    needs(context, 'root and a build that other users can run');
    const folder = join(scratchFolder(), 'folder');
    mkdirSync(folder, { mode: 0o755 });
    writeFileSync(join(folder, 'file'), '', { mode: 0o644 });
    for (const name of ['new', 'file', 'sub/new']) {
      const args = [flag, join(folder, name)];
      const [checked, started] = await Promise.all([check(args, { user: nobody }), runToExit({ args, user: nobody })]);
      refusalOf(checked, 1);
      expect(checked, name).toEqual(started);
    }
  });

  test('where another daemon has the audit log', async () => {
    const audit = join(scratchFolder(), 'audit.jsonl');
    const daemon = await startDaemon({ args: ['--audit-log', audit] });
    const checked = await check(['--audit-log', audit]);
    expect(refusalOf(checked, 1)).toContain('another process has it open');
    expect(checked).toEqual(await runToExit({ args: ['--audit-log', audit] }));
    expect((await daemon.stop()).code).toBe(0);
  });

  test('where the key could not be locked in memory', async (context) => {
    needs(context, 'root and a build that other users can run');
    const options = { user: nobody, prefix: shell('ulimit -l 0') };
    const [checked, started] = [await check([], options), await runToExit(options)];
    refusalOf(checked, 3);
    expect(checked).toEqual(started);
  });

  test('where root could be regained', async (context) => {
    needs(context, 'root', 'command setpriv');
    const exit = await check(['--run-as', 'nobody'], { prefix: ['setpriv', '--securebits', '+no_setuid_fixup'] });
    expect(refusalOf(exit, 3)).toContain('root could be regained');
  });
});

/** A start as root advises --run-as before it fails; a check says so on stdout. */
function withoutAdvice({ stderr }: Exit): string {
  return stderr.replace(/^responses-api-proxy: running as root.*\n/m, '');
}

describe('an upstream that cannot be reached or verified ends it', () => {
  const key = randomKey();
  const connecting = (url: string, ...args: string[]): Promise<Exit> => runToExit({ args: ['--check', '--upstream-url', url, ...args], key });
  /** What the daemon has come to know by then does not matter here. */
  const failing = (url: string, ...args: string[]): Promise<{ message: string; hint: string }> =>
    failureOf(async () => connectAndTell(await optionsOf(['--check', '--upstream-url', url, ...args]), { allowedUids: [], tokenOwner: undefined, notices: [], custody: '' }), 1);

  test.for([
    ['a CA that is not trusted', 'good', () => otherCaFile()],
    ['another name', 'wrongHost', () => caFile()],
    ['expired', 'expired', () => caFile()],
  ] as const)('a certificate that does not verify: %s', async ([, name, ca]) => {
    upstream = await startUpstream({ tls: name });
    expect((await failing(upstream.url, '--upstream-ca', ca())).message).toMatch(new RegExp(`^upstream_tls: localhost:${upstream.port}: `));
    expect(upstream.receivedBytes).toBe(0);
  });

  test('and the daemon says so', async () => {
    const exit = await connecting(upstream.url, '--upstream-ca', otherCaFile());
    expect(refusalOf(exit, 1)).toMatch(new RegExp(`^upstream_tls: localhost:${upstream.port}: `));
    expectNoPieceOf(key, exit.stderr);
  });

  test('an upstream that demands a client certificate', async () => {
    const { cert, key: privateKey } = identity('good');
    const server = tls.createServer({ cert: readFileSync(cert), key: readFileSync(privateKey), requestCert: true, rejectUnauthorized: true });
    server.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    cleanUp(() => server.close());
    expect((await failing(`https://localhost:${(server.address() as AddressInfo).port}/`, '--upstream-ca', caFile())).message).toMatch(/^upstream_tls: .*demands a client certificate/);
  });

  test('nothing listens there', async () => {
    expect((await failing(`https://localhost:${await freePort()}/`)).message).toMatch(/^upstream_unreachable: .*ECONNREFUSED/);
  });

  test('a proxy that is not there', async () => {
    const proxy = `http://me:hidden@127.0.0.1:${await freePort()}`;
    const { message, hint } = await failing('https://gateway.example/', '--upstream-proxy', proxy);
    expect(message).toMatch(/^upstream_unreachable: /);
    expect(message + hint).not.toContain('hidden');
  });

  test('but not one without TLS, on loopback', async () => {
    upstream = await startUpstream({ tls: false });
    expect(said(await connecting(upstream.url), 'connected')).toEqual([`to localhost:${upstream.port}; it is on loopback (no TLS); nothing was sent`]);
    expect(upstream.receivedBytes).toBe(0);
  });
});
