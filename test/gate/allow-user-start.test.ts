import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { findUsers } from '../../src/extras/users.ts';
import { failureOf, optionsOf } from '../support/command-line.ts';
import { runToExit, startDaemon } from '../support/daemon.ts';
import { refusalOf } from '../support/messages.ts';
import { builtNative } from '../support/native.ts';
import { nativeTool } from '../support/native-tools.ts';
import { ask } from '../support/raw-client.ts';
import { skipUnless } from '../support/skip.ts';

const args = ['--upstream-url', 'http://127.0.0.1:9/v1/responses'];

const refused = (...flags: readonly string[]): ReturnType<typeof failureOf> => failureOf(async () => findUsers(await optionsOf(flags), builtNative()), 2);

describe('a user that does not exist is refused', () => {
  test.for(['no-such-user', 'Root', 'ROOT', 'root ', ' root', 'root,nobody', '*', '-1', '+0', '0x0', '0.0', '1e3', ' 0', '0 ', '4294967295', '4294967296', '18446744073709551616', '99999999999999999999', 'a'.repeat(5_000)])('%j', async (user) => {
    const { message } = await refused(`--allow-user=${user}`);
    expect(message).toContain('--allow-user');
    expect(message.length).toBeLessThan(500);
  });

  test('nothing at all', async () => {
    for (const flags of [['--allow-user='], ['--allow-user'], ['--allow-user', '']]) expect((await refused(...flags)).message).toMatch(/allow-user/);
  });

  test('one of several', async () => {
    expect((await refused('--allow-user', '0', '--allow-user', 'no-such-user')).message).toContain('--allow-user');
    expect(refusalOf(await runToExit({ args: [...args, '--allow-user', '0', '--allow-user', 'no-such-user'] }), 2)).toContain('--allow-user');
  });
});

describe('if the kernel cannot tell users apart, the flag is refused', () => {
  test.for(['EPERM', 'EACCES', 'EAFNOSUPPORT', 'EPROTONOSUPPORT'])('no netlink socket: %s', async (error) => {
    const prefix = [await nativeTool('deny-syscalls'), `socket:16=${error}`, '--'];
    const exit = await runToExit({ args: [...args, '--allow-user', '0'], prefix });
    expect(refusalOf(exit, 1)).toMatch(/--allow-user/);
    expect(exit.stderr).not.toContain('listening');
  });

  test('and only this flag', async () => {
    const prefix = [await nativeTool('deny-syscalls'), 'socket:16=EPERM', '--'];
    const daemon = await startDaemon({ args, prefix });
    expect((await ask(daemon.port, { method: 'GET' })).status).toBe(403);
  });

  const namespaces: Record<string, readonly string[]> = {
    'in which no user is mapped': ['unshare', '--user'],
    'in which one user is mapped to root': ['unshare', '--user', '--map-root-user'],
    'in which one user is mapped': ['unshare', '--user', '--map-current-user'],
  };
  test.for(Object.entries(namespaces))('in a user namespace %s', async ([, prefix], context) => {
    const [command = '', ...rest] = prefix;
    skipUnless(context, spawnSync(command, [...rest, 'true']).status === 0, 'needs user namespaces');
    const exit = await runToExit({ args: [...args, '--allow-user', '0'], prefix });
    expect(refusalOf(exit, 1)).toMatch(/--allow-user.*user namespace/);
    expect(exit.stderr).not.toContain('listening');
  });
});
