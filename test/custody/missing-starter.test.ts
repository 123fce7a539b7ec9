import { describe, expect, test } from 'vitest';
import { buildWithoutStarter } from '../support/build-copy.ts';
import { randomKey, runToExit, startDaemon } from '../support/daemon.ts';
import { denying } from '../support/deny.ts';
import { expectNoPieceOf, refusalOf } from '../support/messages.ts';
import { ask } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

test.for(['nothing', 'rubbish', 'another machine\'s'] as const)('a build with %s in the place of its starter does not start, and says that it takes a compiler', async (instead) => {
  const launcher = buildWithoutStarter(instead);
  for (const args of [[], ['--unsafe-no-sandbox']]) {
    const key = randomKey();
    const exit = await runToExit({ launcher, args, key });
    expect(exit, exit.stderr).toMatchObject({ code: 3, stdout: '' });
    expect(exit.stderr).toMatch(/^responses-api-proxy: its native part .*\nhint: .*compiler/m);
    expectNoPieceOf(key, exit.stderr);
  }
});

describe('system calls that cannot be filtered', () => {
  test.for(['seccomp=EPERM', 'seccomp=ENOSYS', 'seccomp=EINVAL'])('(%s) end the start with 3, before the key is read', async (rule, context) => {
    needs(context, 'command cc');
    const key = randomKey();
    for (const args of [[], ['--unsafe-unlocked-memory']]) {
      const exit = await runToExit({ args, prefix: await denying(rule), key });
      expect(refusalOf(exit, 3)).toMatch(/system calls/);
      expect(exit.stderr).toMatch(/^hint: .*seccomp.*--unsafe-no-sandbox/m);
      expectNoPieceOf(key, exit.stderr);
    }
  });

  test('will do with --unsafe-no-sandbox, which says so', async (context) => {
    needs(context, 'command cc');
    const daemon = await startDaemon({ args: ['--unsafe-no-sandbox'], prefix: await denying('seccomp=EPERM') });
    expect(daemon.stderr).toMatch(/^responses-api-proxy: --unsafe-no-sandbox: .+$/m);
  });
});

describe('a kernel or container that refuses Landlock', () => {
  test.for([
    ['landlock_create_ruleset=ENOSYS', 'Function not implemented'],
    ['landlock_create_ruleset=EPERM', 'Operation not permitted'],
    ['landlock_add_rule=EPERM', 'Operation not permitted'],
    ['landlock_restrict_self=EPERM', 'Operation not permitted'],
  ] as const)('(%s) will do, and is named', async ([rule, why], context) => {
    needs(context, 'command cc');
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: upstream.args, prefix: await denying(rule) });
    expect(daemon.stderr.split('\n').filter((line) => line.includes('Landlock'))).toEqual([expect.stringContaining(why)]);
    expect((await ask(daemon.port)).status).toBe(200);
  });
});

test('with everything there nothing is named', async () => {
  expect((await startDaemon()).stderr).not.toMatch(/sandbox|Landlock/);
});
