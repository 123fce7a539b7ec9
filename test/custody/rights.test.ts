import { closeSync, openSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { statusOf } from '../support/process.ts';
import { scratchFolder } from '../support/scratch.ts';
import { needs } from '../support/skip.ts';

// What the daemon has of its caller, or of root, and does not need.

const sets = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'] as const;
const rights = { CHOWN: 0n, DAC_OVERRIDE: 1n, DAC_READ_SEARCH: 2n, FOWNER: 3n, SETGID: 6n, SETUID: 7n, NET_BIND_SERVICE: 10n, IPC_LOCK: 14n } as const;

/** The names of the capabilities in one of its sets; numbers for those that it never needs. */
function capabilities({ pid }: Daemon, set: (typeof sets)[number]): string[] {
  const bits = BigInt(`0x${statusOf(pid, set)}`);
  return [...bits.toString(2)].reverse().flatMap((bit, number) => (bit === '0' ? [] : [Object.entries(rights).find(([, right]) => right === BigInt(number))?.[0] ?? String(number)]));
}

const rich = ['setpriv', '--inh-caps', '+net_raw,+chown', '--ambient-caps', '+net_raw,+chown'];

test('root without flags has no capability, in no set', async (context) => {
  needs(context, 'root', 'command setpriv');
  const daemon = await startDaemon({ prefix: rich });
  expect(sets.map((set) => capabilities(daemon, set))).toEqual(sets.map(() => []));
});

test.for<[flags: string, args: readonly string[], kept: readonly string[]]>([
  ['a port below 1024', ['--port', '81'], ['NET_BIND_SERVICE']],
  ['--run-as', ['--run-as', 'nobody'], ['CHOWN', 'SETGID', 'SETUID']],
  ['a file that is given away', ['--server-info', 'info.json', '--allow-user', 'nobody', '--issue-token'], ['CHOWN', 'DAC_READ_SEARCH', 'FOWNER']],
  ['a log in a folder of one\'s own', ['--audit-log', 'audit'], []],
])('with %s it has those for that', async ([, args, kept], context) => {
  needs(context, 'root and a build that other users can run');
  const daemon = await startDaemon({ args, cwd: scratchFolder() });
  expect(capabilities(daemon, 'CapBnd')).toEqual(kept);
  expect(capabilities(daemon, 'CapEff')).toEqual(args.includes('--run-as') ? [] : kept);
});

test('where so little memory may be locked that the key does not fit, it has the one for that', async (context) => {
  needs(context, 'root', 'command prlimit');
  expect(capabilities(await startDaemon({ prefix: ['prlimit', '--memlock=4096'] }), 'CapBnd')).toEqual(['IPC_LOCK']);
});

test('a descriptor that the caller left open is closed, one that a flag names is read, and the folder is left', async (context) => {
  needs(context, 'root');
  const folder = scratchFolder();
  const [left, policy] = [join(folder, 'left'), join(folder, 'policy')];
  writeFileSync(left, '');
  writeFileSync(policy, '{"models":["gpt-5"]}');
  const descriptor = openSync(policy, 'r');
  const daemon = await startDaemon({ descriptor3: descriptor, prefix: ['sh', '-c', `exec 7<'${left}'; exec "$@"`, 'sh'], args: ['--policy', '/dev/fd/3'], cwd: folder });
  closeSync(descriptor);
  const targets = readdirSync(`/proc/${daemon.pid}/fd`).map((name) => readlinkSync(`/proc/${daemon.pid}/fd/${name}`));
  expect(targets).not.toContain(left);
  expect(daemon.stderr).toContain('policy enforced');
  expect(readlinkSync(`/proc/${daemon.pid}/cwd`)).toBe('/');
});

test('so is the first one behind the standard streams, where a service manager would pass a socket', async (context) => {
  needs(context, 'root');
  const left = join(scratchFolder(), 'left');
  writeFileSync(left, '');
  const daemon = await startDaemon({ prefix: ['sh', '-c', `exec 3<'${left}'; exec "$@"`, 'sh'] });
  expect(readdirSync(`/proc/${daemon.pid}/fd`).map((name) => readlinkSync(`/proc/${daemon.pid}/fd/${name}`))).not.toContain(left);
});
