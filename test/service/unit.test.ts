import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { checkout, launcher } from '../support/daemon-paths.ts';
import { nobody, randomKey, startDaemon } from '../support/daemon.ts';
import { runTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, freePort, startUpstream } from '../support/upstream.ts';

// How it does under a real systemd is in test/long/service.long.ts.

const file = join(checkout, 'scripts', 'systemd', 'responses-api-proxy.service');
const socketFile = file.replace(/service$/, 'socket');
const unit = readFileSync(file, 'utf8');

/** Ten times what `systemd-analyze security` may find at most, from 0 (closed) to 100. */
const worstExposure = 15;

/** The directives in force, in order, with continued lines joined. */
const directives = [...unit.replaceAll('\\\n', ' ').matchAll(/^([A-Z]\w*)=(.*)$/gm)].map(([, name, value]) => [name ?? '', value ?? ''] as const);

function valueOf(name: string): string {
  const values = directives.filter(([other]) => other === name).map(([, value]) => value);
  expect(values, name).toHaveLength(1);
  return values[0] ?? '';
}

test('systemd-analyze rates its exposure at 1.5 or less', async (context) => {
  needs(context, 'command systemd-analyze');
  const result = await runTool('systemd-analyze', ['security', '--offline=true', `--threshold=${worstExposure}`, '--no-pager', file]);
  expect(result.stdout).toMatch(/Overall exposure level for responses-api-proxy\.service: \d/);
  expect(result.code, result.stdout.split('\n').at(-2)).toBe(0);
});

test('systemd-analyze finds nothing that it does not understand', async (context) => {
  needs(context, 'command systemd-analyze');
  expect(await runTool('systemd-analyze', ['verify', file, socketFile])).toEqual({ code: 0, stdout: '', stderr: '' });
});

test('the port is the socket\'s alone', () => {
  expect(readFileSync(socketFile, 'utf8')).toMatch(/^ListenStream=127\.0\.0\.1:8787$/m);
  expect(valueOf('ExecStart')).not.toContain('--port');
  expect(valueOf('Requires')).toBe('responses-api-proxy.socket');
});

test('what it cannot have is named, with the reason', () => {
  for (const name of ['MemoryDenyWriteExecute', 'PrivateUsers', 'PrivateNetwork', 'IPAddressDeny', 'RootDirectory']) {
    expect(directives.map(([other]) => other)).not.toContain(name);
    expect(unit).toMatch(new RegExp(`^#.*\\b${name}\\b`, 'm'));
  }
});

test('what the daemon needs is allowed', () => {
  expect(unit).toMatch(/^SystemCallFilter=@system-service memfd_secret$/m);
  expect(unit).toMatch(/^SystemCallFilter=seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self$/m);
  expect(valueOf('RestrictAddressFamilies').split(' ')).toContain('AF_NETLINK');
  expect(valueOf('LimitMEMLOCK')).toBe('64K');
});

test('the audit log that it suggests is in its folder, where logrotate looks for it', () => {
  const suggested = [...unit.matchAll(/^#  (--[a-z-]+)/gm)].map(([, flag]) => flag);
  expect(suggested).toEqual(['--server-info', '--audit-log', '--policy']);
  const [, folder = ''] = /^#  --audit-log %L\/(.*)\/[^/]+\.jsonl \\$/m.exec(unit) ?? [];
  expect(folder).toBe(valueOf('LogsDirectory'));
  expect(readFileSync(join(dirname(file), 'responses-api-proxy.logrotate'), 'utf8')).toContain(`/var/log/private/${folder}/*.jsonl {`);
});

test('a reload sends SIGUSR2 to the daemon', async () => {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const folder = scratchFolder();
  const [log, renamed] = [join(folder, 'audit.jsonl'), join(folder, 'audit.jsonl.1')];
  const daemon = await startDaemon({ args: [...upstream.args, '--audit-log', log] });
  renameSync(log, renamed);
  const [, command = ''] = /^\/bin\/sh -c '(.*)'$/.exec(valueOf('ExecReload')) ?? [];
  expect(await runTool('env', [`MAINPID=${daemon.pid}`, 'sh', '-c', command.replaceAll('$$', '$')])).toEqual({ code: 0, stdout: '', stderr: '' });
  await expect.poll(() => existsSync(log)).toBe(true);
  expect((await ask(daemon.port)).status).toBe(200);
});

test('its command serves, for a user without privileges and within its limits', async (context) => {
  needs(context, 'root and a build that other users can run', 'command setpriv', 'command prlimit');
  const folder = scratchFolder();
  const [bin, credentials, run] = ['bin', 'credentials', 'run'].map((name) => join(folder, name)) as [string, string, string];
  const runtimeDirectory = join(run, valueOf('RuntimeDirectory'));
  for (const path of [bin, credentials, runtimeDirectory]) mkdirSync(path, { recursive: true });
  chownSync(runtimeDirectory, nobody.uid, nobody.gid);
  symlinkSync(launcher, join(bin, 'responses-api-proxy'));
  const key = randomKey();
  const [credential = ''] = valueOf('LoadCredential').split(':');
  writeFileSync(join(credentials, credential), `${key}\n`, { mode: 0o400 });
  chownSync(join(credentials, credential), nobody.uid, nobody.gid);

  const port = await freePort();
  const upstream = await startUpstream({ answer: answer(200, '{"served":true}') });
  const command = valueOf('ExecStart').replace('%d', credentials).replace('%t', run).replace('$$', '$');
  const daemon = await startDaemon({
    prefix: [
      'setpriv', `--reuid=${nobody.uid}`, `--regid=${nobody.gid}`, '--clear-groups', '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all',
      'prlimit', '--memlock=65536', `--nofile=${valueOf('LimitNOFILE')}`, '--core=0',
      'env', '-i', `PATH=${bin}:${process.env['PATH'] ?? ''}`,
    ],
    launcher: 'sh',
    args: ['-c', `umask ${valueOf('UMask')}; exec ${command} --port ${port} ${upstream.args.join(' ')}`],
    stdin: 'ignore',
    cwd: '/',
  });
  expect(daemon.port).toBe(port);
  const response = await ask(port);
  expect([response.status, response.text()]).toEqual([200, '{"served":true}']);
  expect(upstream.requests[0]?.headers).toContainEqual([expect.stringMatching(/^authorization$/i), `Bearer ${key}`]);
  const info = join(runtimeDirectory, 'server-info.json');
  expect(dirname(info)).toBe(runtimeDirectory);
  expect(JSON.parse(readFileSync(info, 'utf8'))).toEqual({ port, pid: daemon.pid });
  expect((await daemon.stop()).code).toBe(0);
});
