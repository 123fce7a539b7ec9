import { describe, expect, test } from 'vitest';
import { longestKey } from '../support/custody-load.ts';
import { nobody, runToExit, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { denying, noMemfdSecret } from '../support/deny.ts';
import { runLoad, startLoadUpstream } from '../support/load.ts';
import { expectNoPieceOf, refusalOf } from '../support/messages.ts';
import { needs } from '../support/skip.ts';

/** As old systems have it for everybody but root. */
const oldLimitBytes = 64 * 1024;

/** Root may lock as much as it likes, so it is done as nobody, whom setpriv and prlimit bring about in this order. */
function limitedTo(bytes: number, inner: readonly string[] = []): Pick<DaemonOptions, 'prefix' | 'user'> {
  return { user: nobody, prefix: ['prlimit', `--memlock=${bytes}:${bytes}`, ...inner] };
}

const kernels: Record<string, readonly string[]> = { 'with memfd_secret': [], 'without memfd_secret': [noMemfdSecret] };

describe.for(Object.entries(kernels))('%s', ([, rules]) => {
  const inner = async (): Promise<readonly string[]> => (rules.length === 0 ? [] : denying(...rules));

  test('an RLIMIT_MEMLOCK of 64 KiB is enough for 256 connections, heads of 60 KiB and a key of 8 KiB', async (context) => {
    needs(context, 'root and a build that other users can run', 'command prlimit', 'command cc');
    const upstream = await startLoadUpstream();
    const daemon = await startDaemon({ args: upstream.args, key: longestKey(), ...limitedTo(oldLimitBytes, await inner()) });
    expect(await runLoad(daemon.port, { requests: 1_000, atOnce: 256, headBytes: 58_000, plays: ['json', 'stream'] })).toEqual({});
    expect([...upstream.credentials.keys()]).toEqual([`authorization: Bearer ${daemon.key}`]);
  });

  test('one of 0 ends the start, with a hint', async (context) => {
    needs(context, 'root and a build that other users can run', 'command prlimit', 'command cc');
    const key = longestKey();
    const exit = await runToExit({ key, ...limitedTo(0, await inner()) });
    expect(refusalOf(exit, 3)).toMatch(/lock/);
    expect(exit.stderr).toMatch(/^hint: .*RLIMIT_MEMLOCK/m);
    expect(exit.stderr).toMatch(/^hint: .*--unsafe-unlocked-memory/m);
    expectNoPieceOf(key, exit.stderr);
  });

  test('one of 0 is waived by --unsafe-unlocked-memory, which says so', async (context) => {
    needs(context, 'root and a build that other users can run', 'command prlimit', 'command cc');
    const upstream = await startLoadUpstream();
    const daemon = await startDaemon({ args: [...upstream.args, '--unsafe-unlocked-memory'], ...limitedTo(0, await inner()) });
    expect(daemon.stderr).toMatch(/^responses-api-proxy: --unsafe-unlocked-memory: .+$/m);
    expect(await runLoad(daemon.port, { requests: 20, plays: ['json'] })).toEqual({});
  });
});

test('the flag says nothing where memory can be locked', async () => {
  const daemon = await startDaemon({ args: ['--unsafe-unlocked-memory'] });
  expect(daemon.stderr).not.toMatch(/unlocked/);
});
