import { chmodSync, copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { caFile } from '../support/certificates.ts';
import { findUsers } from '../../src/extras/users.ts';
import { failureOf, optionsOf } from '../support/command-line.ts';
import { nobody, runToExit, startDaemon } from '../support/daemon.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { openWays } from '../support/intruder.ts';
import { refusalOf } from '../support/messages.ts';
import { builtNative } from '../support/native.ts';
import { lockedAreasOf, openFilesOf, statusOf, statusOfThreads } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const asNobody = ['--run-as', 'nobody'] as const;

/** Real, effective, saved and file system id. */
const four = (id: number): string => Array.from({ length: 4 }, () => id).join('\t');

const recommendations = (stderr: string): number => stderr.split('\n').filter((line) => line.includes('--run-as')).length;

describe('--run-as', () => {
  test.for([['by name', 'nobody'], ['by uid', String(nobody.uid)]])('gives up root for good in every thread, %s', async ([, user = ''], context) => {
    needs(context, 'root and a build that other users can run', 'command setpriv');
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--run-as', user], prefix: ['setpriv', '--groups', '0,1,4,27'] });
    expect((await ask(daemon.port)).status).toBe(200);
    const expected: Record<string, string> = { Uid: four(nobody.uid), Gid: four(nobody.gid), Groups: String(nobody.gid), NoNewPrivs: '1' };
    for (const capabilities of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) expected[capabilities] = '0'.repeat(16);
    for (const [field, value] of Object.entries(expected)) {
      expect([field, ...new Set(statusOfThreads(daemon.pid, field))]).toEqual([field, value]);
    }
  });

  test('leaves it closed to that user, and the key locked', async (context) => {
    needs(context, 'root and a build that other users can run', 'command cc');
    for (const prefix of [[], await denying(noMemfdSecret)]) {
      const daemon = await startDaemon({ args: asNobody, prefix });
      expect(await openWays(daemon.pid, nobody)).toEqual([]);
      expect(lockedAreasOf(daemon.pid).length).toBeGreaterThan(0);
      expect(statusOf(daemon.pid, 'Uid')).toBe(four(nobody.uid));
    }
  });

  test('comes after the files are read and the port is bound', async (context) => {
    needs(context, 'root and a build that other users can run');
    const ca = join(scratchFolder(), 'ca.pem');
    copyFileSync(caFile(), ca);
    chmodSync(ca, 0o600);
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const privilegedPort = 991;
    const daemon = await startDaemon({ args: ['--upstream-url', upstream.url, '--upstream-ca', ca, '--port', String(privilegedPort), ...asNobody] });
    expect(daemon.port).toBe(privilegedPort);
    expect((await ask(daemon.port)).status).toBe(200);
  });

  test('keeps no file open that is worth anything, and is recommended to nobody who does it', async (context) => {
    needs(context, 'root and a build that other users can run');
    const daemon = await startDaemon({ args: asNobody });
    expect(recommendations(daemon.stderr)).toBe(0);
    const files = openFilesOf(daemon.pid).map(({ target }) => target).filter((target) => target.startsWith('/') && !target.startsWith('/dev/'));
    expect(files).toEqual([]);
  });

  test('to root is refused, which gives up nothing, and to a user that does not exist', async (context) => {
    needs(context, 'root');
    const { message } = await failureOf(async () => findUsers(await optionsOf(['--run-as', '0']), builtNative()), 2);
    expect(message).toBe('--run-as "root" is still root');
    expect(refusalOf(await runToExit({ args: ['--run-as', 'no-such-user'] }), 2)).toContain('no-such-user');
  });

  test.for(['setgroups=EPERM', 'setgid=EPERM', 'setuid=EPERM'])('that fails (%s) ends the start with 3', async (rule, context) => {
    needs(context, 'root', 'command cc');
    const exit = await runToExit({ args: asNobody, prefix: await denying(rule) });
    refusalOf(exit, 3);
    expect(exit.stderr).not.toContain('listening on');
  });

  test('to a user who is in root\'s group as well ends the start with 3', async (context) => {
    needs(context, 'root', 'command unshare');
    const groups = join(scratchFolder(), 'group');
    writeFileSync(groups, 'root:x:0:nobody\n');
    const exit = await runToExit({ args: asNobody, prefix: ['unshare', '--mount', 'sh', '-c', `mount --bind '${groups}' /etc/group && exec "$@"`, 'sh'] });
    expect(refusalOf(exit, 3)).toContain('root could be regained');
    expect(exit.stderr).not.toContain('listening on');
  });

  test('that could be undone ends the start with 3', async (context) => {
    needs(context, 'root', 'command setpriv');
    // With this bit a change of uid keeps the capabilities, so setuid(0) would bring root back.
    const exit = await runToExit({ args: asNobody, prefix: ['setpriv', '--securebits', '+no_setuid_fixup'] });
    refusalOf(exit, 3);
    expect(exit.stderr).not.toContain('listening on');
  });
});

describe('one line recommends it', () => {
  test('to root', async (context) => {
    needs(context, 'root');
    expect(recommendations((await startDaemon()).stderr)).toBe(1);
  });

  test('not to others', async (context) => {
    needs(context, 'root and a build that other users can run');
    expect(recommendations((await startDaemon({ user: nobody })).stderr)).toBe(0);
  });
});
