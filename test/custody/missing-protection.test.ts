import { describe, expect, test } from 'vitest';
import { buildWithoutAddon } from '../support/build-copy.ts';
import { launch, randomKey, runToExit, startDaemon } from '../support/daemon.ts';
import { denying, noLocking, noMemfdSecret } from '../support/deny.ts';
import { expectNoPieceOf, refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';

test.for(['nothing', 'rubbish'] as const)('a build with %s in the place of its addon does not start, and says that it takes a compiler', async (instead) => {
  const launcher = buildWithoutAddon(instead);
  for (const args of [[], ['--unsafe-unlocked-memory', '--unsafe-no-sandbox'], ['--help']]) {
    const key = randomKey();
    const exit = await runToExit({ launcher, args, key });
    expect(refusalOf(exit, 3)).toMatch(/native part/);
    expect(exit.stderr).toMatch(/^hint: .*compiler.*build-native\.sh'$/m);
    expectNoPieceOf(key, exit.stderr);
  }
});

describe('a kernel', () => {
  test('without memfd_secret will do', async (context) => {
    needs(context, 'command cc');
    for (const rule of [noMemfdSecret, 'memfd_secret=EPERM', 'memfd_secret=EACCES', 'memfd_secret=ENOMEM']) {
      const daemon = await startDaemon({ prefix: await denying(rule) });
      expect(daemon.stderr).toMatch(/^responses-api-proxy: key in mlocked memory, which root can read; .*\nresponses-api-proxy listening/m);
      expect(daemon.stderr).not.toMatch(/unsafe|unlocked|cannot/);
      await daemon.stop();
    }
  });

  test('without mlock will do', async (context) => {
    needs(context, 'command cc');
    const daemon = await startDaemon({ prefix: await denying('mlock=EPERM', 'mlock2=EPERM') });
    expect(daemon.stderr).toMatch(/^responses-api-proxy: key in memfd_secret; .*\nresponses-api-proxy listening/m);
  });

  test('without either will not: the start ends, and the hint names seccomp', async (context) => {
    needs(context, 'command cc');
    const key = randomKey();
    const exit = await runToExit({ prefix: await denying(...noLocking), key });
    expect(refusalOf(exit, 3)).toMatch(/lock/);
    expect(exit.stderr).toMatch(/^hint: .*seccomp/m);
    expect(exit.stderr).toMatch(/^hint: .*--unsafe-unlocked-memory/m);
    expectNoPieceOf(key, exit.stderr);
  });

  test('without either will do with --unsafe-unlocked-memory, which says so', async (context) => {
    needs(context, 'command cc');
    const daemon = await startDaemon({ args: ['--unsafe-unlocked-memory'], prefix: await denying(...noLocking) });
    expect(daemon.stderr).toMatch(/^responses-api-proxy: --unsafe-unlocked-memory: .+$/m);
    expect(daemon.stderr).toMatch(/^responses-api-proxy: key in unlocked memory, which root can read, and which may be swapped out; .*\nresponses-api-proxy listening/m);
    expect((await ask(daemon.port, { method: 'GET' })).status).toBe(403);
  });

  test('without secure memory does not get to read the key', async (context) => {
    needs(context, 'command cc');
    // It exits although nothing has been written to stdin yet.
    const running = launch({ prefix: await denying(...noLocking), stdin: () => {} });
    refusalOf(await running.waitForExit(), 3);
  });
});

const steps: Record<string, readonly [rule: string, message: RegExp]> = {
  'not to be traced': ['prctl:4=EPERM', /trac/],
  'not to dump core': ['prlimit64=EPERM', /core/],
  'not to gain privileges': ['prctl:38=EPERM', /privileg/],
};

describe('a hardening step that fails ends the start', () => {
  test.for(Object.entries(steps))('%s', async ([, [rule, message]], context) => {
    needs(context, 'command cc');
    const key = randomKey();
    for (const args of [[], ['--unsafe-unlocked-memory']]) {
      const exit = await runToExit({ args, prefix: await denying(rule), key });
      expect(refusalOf(exit, 3)).toMatch(message);
      expect(exit.stderr).toMatch(/^hint: .*seccomp/m);
      expectNoPieceOf(key, exit.stderr);
    }
  });

  test('each in its own words', async (context) => {
    needs(context, 'command cc');
    const reasons = await Promise.all(Object.values(steps).map(async ([rule]) => refusalOf(await runToExit({ prefix: await denying(rule) }), 3)));
    expect(new Set(reasons).size).toBe(reasons.length);
  });

  test('before the key is read', async (context) => {
    needs(context, 'command cc');
    const running = launch({ prefix: await denying('prctl:4=EPERM'), stdin: () => {} });
    refusalOf(await running.waitForExit(), 3);
  });
});
