import { readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { nobody, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { type Call, type Outcome, bySeccomp, errno, inject, needsInjection } from '../support/inject.ts';
import { statusOf, statusOfThreads } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { needs } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';

// Code that got into the daemon, by a bug in a parser or a dependency that was taken over, can make any system call. A tracer
// does as it would. Arguments are such that a kernel without walls does no harm: it finds them wrong, or changes nothing.

const unsandboxed = ['--unsafe-no-sandbox'] as const;

/** No address, and no descriptor. */
const bad = 1, none = -1;

/** What only an attacker calls: the process ends. */
const deadly: Record<string, Call> = {
  ptrace: [101, 1, 0x7fffffff], process_vm_readv: [310, 0x7fffffff, 0, 0, bad, 1], process_vm_writev: [311, 0x7fffffff, 0, 0, bad, 1],
  pidfd_getfd: [438, none, 0], kcmp: [312, 0x7fffffff, 0x7fffffff], process_madvise: [440, none], process_mrelease: [448, none],
  bpf: [321, 0, bad, 16], perf_event_open: [298, bad], userfaultfd: [323, -2], add_key: [248, bad], request_key: [249, bad], keyctl: [250, 9999],
  io_uring_enter: [426, none], io_uring_register: [427, none],
  mount: [165, bad, bad, bad], umount2: [166, bad], pivot_root: [155, bad, bad], chroot: [161, bad], open_tree: [428, none, bad], move_mount: [429, none, bad, none, bad],
  mount_setattr: [442, none, bad, 0, bad, 32], fsopen: [430, bad], fsconfig: [431, none], fsmount: [432, none], fspick: [433, none, bad],
  'unshare (nothing)': [272, 0], setns: [308, none],
  'clone into a user namespace': [56, 0x10000000 | 17], 'clone into a network namespace': [56, 0x40000000 | 17],
  init_module: [175, bad, 8, bad], finit_module: [313, none, bad], delete_module: [176, bad], kexec_load: [246, 0, 99, bad, 0x10000000], kexec_file_load: [320, none, none],
  reboot: [169, 1], swapon: [167, bad], swapoff: [168, bad], acct: [163, bad], quotactl: [179, 0, bad], syslog: [103, 99], sethostname: [170, bad, 999], setdomainname: [171, bad, 999],
  settimeofday: [164, bad], clock_settime: [227, 0, bad], clock_adjtime: [305, 0, bad], adjtimex: [159, bad],
  name_to_handle_at: [303, none, bad, bad, bad], open_by_handle_at: [304, none, bad], fanotify_init: [300, -1], fanotify_mark: [301, none],
  iopl: [172, 99], ioperm: [173, 0, 0], modify_ldt: [154, 0, bad, 0],
  execve: [59, bad], execveat: [322, none, bad], fork: [57], vfork: [58], 'clone without a thread': [56, 17],
  listen: [50, none],
  setuid: [105, 0], setgid: [106, 0], setreuid: [113, none, none], setregid: [114, none, none], setresuid: [117, none, none, none], setresgid: [119, none, none, none],
  setfsuid: [122, 0], setfsgid: [123, 0], setgroups: [116, 1, bad], capset: [126, bad],
};

/** What a library may try: it is told that it may not, or that there is no such call. */
const refused: Record<string, readonly [Call, refusal: number]> = {
  io_uring_setup: [[425, 8, bad], errno.ENOSYS], clone3: [[435, bad, 0], errno.ENOSYS], openat2: [[437, none, bad, bad, 0], errno.ENOSYS],
  chmod: [[90, bad], errno.EPERM], fchmod: [[91, none], errno.EPERM], fchmodat: [[268, none, bad], errno.EPERM], fchmodat2: [[452, none, bad, 0, 0], errno.EPERM],
  chown: [[92, bad], errno.EPERM], fchown: [[93, none], errno.EPERM], lchown: [[94, bad], errno.EPERM], fchownat: [[260, none, bad], errno.EPERM],
  rename: [[82, bad, bad], errno.EPERM], renameat: [[264, none, bad, none, bad], errno.EPERM], renameat2: [[316, none, bad, none, bad], errno.EPERM],
  link: [[86, bad, bad], errno.EPERM], linkat: [[265, none, bad, none, bad], errno.EPERM], symlink: [[88, bad, bad], errno.EPERM], symlinkat: [[266, bad, none, bad], errno.EPERM],
  mknod: [[133, bad], errno.EPERM], mknodat: [[259, none, bad], errno.EPERM], mkdir: [[83, bad], errno.EPERM], mkdirat: [[258, none, bad], errno.EPERM], rmdir: [[84, bad], errno.EPERM],
  'unlinkat of a folder': [[263, none, bad, 0x200], errno.EPERM],
  truncate: [[76, bad, 0], errno.EPERM], utimensat: [[280, none, bad, bad], errno.EPERM], setxattr: [[188, bad, bad], errno.EPERM], fremovexattr: [[199, none, bad], errno.EPERM],
  memfd_create: [[319, bad, 0], errno.EPERM], memfd_secret: [[447, -1], errno.EPERM],
  'prlimit64 (setting)': [[302, 0, 4, bad, 0], errno.EPERM], setrlimit: [[160, 4, bad], errno.EPERM],
  creat: [[85, bad], errno.EPERM], 'open (writing)': [[2, bad, 1], errno.EPERM], 'openat (reading and writing)': [[257, none, bad, 2], errno.EPERM],
  'openat (creating)': [[257, none, bad, 0o100], errno.EPERM], 'openat (emptying)': [[257, none, bad, 0o1000], errno.EPERM], 'openat (a file without a name)': [[257, none, bad, 0o20200001], errno.EPERM],
  'kill of another process': [[62, 0x7ffffffe, 0], errno.EPERM], 'kill of all processes': [[62, -1, 99], errno.EPERM], tkill: [[200, 0x7ffffffe, 0], errno.EPERM], pidfd_open: [[434, -1], errno.EPERM],
  'socket of another family': [[41, 17, 3, 0], errno.EAFNOSUPPORT], 'socket of another protocol': [[41, 2, 1, 262], errno.EPROTONOSUPPORT], 'a raw socket': [[41, 2, 3, 1], errno.EPROTONOSUPPORT],
  'socket to services of this machine': [[41, 1, 1, 0], errno.EAFNOSUPPORT], 'socket of SCTP': [[41, 2, 5, 0], errno.ESOCKTNOSUPPORT],
  'sendto that connects': [[44, none, bad, 0, 0x20000000], errno.EOPNOTSUPP], 'sendmsg that connects': [[46, none, bad, 0x20000000], errno.EOPNOTSUPP],
  'sendmmsg that connects': [[307, none, bad, 0, 0x20000000], errno.EOPNOTSUPP],
  'fcntl that lets a descriptor signal (F_SETOWN)': [[72, none, 8, 1], errno.EPERM], 'F_SETSIG': [[72, none, 10, 9], errno.EPERM], 'F_SETOWN_EX': [[72, none, 15, bad], errno.EPERM],
  'prctl that lets in tracers (PR_SET_DUMPABLE)': [[157, 4, 99], errno.EPERM], 'PR_SET_PTRACER': [[157, 0x59616d61, 0x7ffffffe], errno.EPERM],
  'ioctl that types into the terminal': [[16, none, 0x5412, bad], errno.EPERM],
  'a call that is not known yet': [[1023], errno.ENOSYS],
};

/** What the daemon does all the time, and what node, libc and OpenSSL may do late. */
const allowed: Record<string, Call> = {
  'openat (reading)': [257, -100, '/etc/passwd', 0], 'prlimit64 (asking)': [302, 0, 7, 0, 0],
  'socket for TCP': [41, 2, 1, 0], 'socket for UDP': [41, 2, 2, 17], 'socket for sock_diag': [41, 16, 3, 4],
};

/** An answer that no wall gave: the kernel has looked at the arguments. */
function isKernels(outcome: Outcome | undefined): boolean {
  return typeof outcome === 'number' && outcome !== errno.EPERM && outcome !== errno.ENOSYS;
}

/** Kernels may be built without these, and a container may refuse root some: then there is nothing to compare. */
const rare = ['kexec_load', 'kexec_file_load', 'init_module', 'finit_module', 'delete_module', 'swapon', 'swapoff', 'acct', 'iopl', 'ioperm', 'bpf', 'userfaultfd', 'perf_event_open', 'quotactl', 'modify_ldt',
  'io_uring_setup', 'io_uring_enter', 'io_uring_register', 'socket of another protocol', 'a call that is not known yet'];

async function expectWalls(options: DaemonOptions): Promise<void> {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ ...options, args: [...upstream.args, ...(options.args ?? [])] });
  const entries = Object.entries(refused);
  const outcomes = await inject(daemon.pid, entries.map(([, [call]]) => call));
  expect(Object.fromEntries(entries.map(([name], index) => [name, outcomes[index]]))).toEqual(Object.fromEntries(entries.map(([name, [, refusal]]) => [name, refusal])));
  expect((await ask(daemon.port)).status).toBe(200);
}

describe('a system call that only an attacker makes ends the daemon:', () => {
  test.for(Object.entries(deadly))('%s', async ([, call], context) => {
    needsInjection(context);
    const daemon = await startDaemon();
    expect(await inject(daemon.pid, [call])).toEqual([bySeccomp]);
    expect((await daemon.waitForExit()).signal).toBe('SIGSYS');
  });

  test('one of the 32-bit ABI', async (context) => {
    needsInjection(context);
    expect(await inject((await startDaemon()).pid, [['i386:20']])).toEqual([bySeccomp]);
  });

  test('one of x32', async (context) => {
    needsInjection(context);
    expect(await inject((await startDaemon()).pid, [[0x40000000 + 39]])).toEqual([bySeccomp]);
  });
});

describe('what a library may try is refused, and the daemon serves on:', () => {
  test('for root', async (context) => {
    needsInjection(context);
    await expectWalls({});
  });

  test('with --run-as', async (context) => {
    needsInjection(context);
    needs(context, 'root and a build that other users can run');
    await expectWalls({ args: ['--run-as', 'nobody'] });
  });

  test('for a plain user', async (context) => {
    needsInjection(context);
    needs(context, 'root and a build that other users can run');
    await expectWalls({ user: nobody });
  });

  test('in every thread', async (context) => {
    needsInjection(context);
    const upstream = await startUpstream({ answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: upstream.args });
    expect((await ask(daemon.port)).status).toBe(200); // the upstream's name was looked up in a thread made for it
    const threads = readdirSync(`/proc/${daemon.pid}/task`).map(Number);
    expect(threads.length).toBeGreaterThan(5);
    for (const thread of threads) expect(await inject(thread, [[90, bad], [425, 8, bad]])).toEqual([errno.EPERM, errno.ENOSYS]);
    const last = threads.at(-1) ?? 0;
    expect(await inject(last, [[57]])).toEqual([bySeccomp]);
  });
});

test('what it needs is allowed', async (context) => {
  needsInjection(context);
  const daemon = await startDaemon();
  const calls = { ...allowed, 'kill of itself (nothing)': [62, daemon.pid, 0] as const };
  const outcomes = await inject(daemon.pid, Object.values(calls));
  for (const [index, name] of Object.keys(calls).entries()) expect(outcomes[index], name).toBeGreaterThanOrEqual(0);
});

test('with --unsafe-no-sandbox the same calls work', async (context) => {
  needsInjection(context);
  const daemon = await startDaemon({ args: unsandboxed });
  const calls = [...Object.entries(deadly), ...Object.entries(refused).map(([name, [call]]) => [name, call] as const)];
  const outcomes = await inject(daemon.pid, calls.map(([, call]) => call));
  expect(outcomes).toHaveLength(calls.length);
  const unlike = calls.map(([name], index) => [name, outcomes[index]] as const).filter(([name, outcome]) => !isKernels(outcome) && !rare.includes(name));
  expect(unlike).toEqual([]);
  expect(await inject(daemon.pid, [['i386:20']])).toEqual([daemon.pid]);
});

test('no ring of io_uring is among its descriptors', async (context) => {
  needs(context, 'root');
  const { pid } = await startDaemon();
  const targets = readdirSync(`/proc/${pid}/fd`).map((descriptor) => readlinkSync(`/proc/${pid}/fd/${descriptor}`));
  expect(targets.length).toBeGreaterThan(3);
  expect(targets.filter((target) => target.includes('io_uring'))).toEqual([]);
});

test('anyone can see that the walls are there', async () => {
  const { pid } = await startDaemon();
  expect(new Set(statusOfThreads(pid, 'NoNewPrivs'))).toEqual(new Set(['1']));
  expect(new Set(statusOfThreads(pid, 'Seccomp'))).toEqual(new Set(['2']));
  const { pid: open } = await startDaemon({ args: unsandboxed });
  expect(new Set(statusOfThreads(open, 'NoNewPrivs'))).toEqual(new Set(['1']));
  expect(statusOf(open, 'Seccomp')).toBe(statusOf(process.pid, 'Seccomp'));
});
