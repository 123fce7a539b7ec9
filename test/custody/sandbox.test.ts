import { readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { nobody, startDaemon, type DaemonOptions } from '../support/daemon.ts';
import { denying } from '../support/deny.ts';
import { type Call, bySeccomp, errno, inject, needsInjection } from '../support/inject.ts';
import { statusOf, statusOfThreads } from '../support/process.ts';
import { ask } from '../support/raw-client.ts';
import { needs, skipUnless } from '../support/skip.ts';
import { answer, startUpstream } from '../support/upstream.ts';
import { self, verdicts } from '../support/walls.ts';

// Code that got into the daemon, by a bug in a parser or a dependency that was taken over, can make any system call. Here stands
// what becomes of each: first by asking the kernel about the filters alone, then in live daemons. The numbers are those of x64.

/** What a serving daemon may do, whatever the arguments. */
const serving = {
  'reads, writes, waits for and closes what is open': { read: 0, write: 1, close: 3, poll: 7, lseek: 8, pread64: 17, readv: 19, writev: 20, epoll_ctl: 233, ppoll: 271, epoll_pwait: 281 },
  'accepts, makes, uses and ends connections': {
    connect: 42, sendto: 44, recvfrom: 45, sendmsg: 46, recvmsg: 47, shutdown: 48, getsockname: 51, getpeername: 52, getsockopt: 55, accept4: 288, sendmmsg: 307,
  },
  'lets threads wait for each other, and end': {
    sched_yield: 24, nanosleep: 35, exit: 60, sched_getparam: 143, sched_getscheduler: 145, futex: 202, sched_getaffinity: 204, restart_syscall: 219, clock_nanosleep: 230, exit_group: 231, set_robust_list: 273, rseq: 334,
  },
  'takes and gives back memory': { mmap: 9, mprotect: 10, munmap: 11, brk: 12, mremap: 25 },
  'asks the time, for chance, and who it is': {
    getpid: 39, uname: 63, gettimeofday: 96, getuid: 102, getgid: 104, geteuid: 107, getegid: 108, gettid: 186, time: 201, clock_gettime: 228, clock_getres: 229, getrandom: 318,
  },
  'gets signals': { rt_sigaction: 13, rt_sigprocmask: 14, rt_sigreturn: 15 },
  'looks at files': { stat: 4, fstat: 5, lstat: 6, access: 21, readlink: 89, newfstatat: 262, readlinkat: 267, statx: 332 },
};

/** Calls that it may make with some arguments, see `rules`. With none at all, these pass. */
const partly = { open: 2, openat: 257, prlimit64: 302 };

/** What only an attacker calls, from the start on, or once the daemon serves: the process ends. */
const deadly = {
  start: {
    'ptrace': 101, 'syslog': 103, 'uselib': 134, 'vhangup': 153, 'modify_ldt': 154, 'pivot_root': 155, 'adjtimex': 159, 'chroot': 161, 'acct': 163, 'settimeofday': 164, 'mount': 165, 'umount2': 166,
    'swapon': 167, 'swapoff': 168, 'reboot': 169, 'sethostname': 170, 'setdomainname': 171, 'iopl': 172, 'ioperm': 173, 'init_module': 175, 'delete_module': 176, 'quotactl': 179, 'clock_settime': 227,
    'kexec_load': 246, 'add_key': 248, 'request_key': 249, 'keyctl': 250, 'unshare': 272, 'perf_event_open': 298, 'fanotify_init': 300, 'fanotify_mark': 301, 'name_to_handle_at': 303, 'open_by_handle_at': 304,
    'clock_adjtime': 305, 'setns': 308, 'process_vm_readv': 310, 'process_vm_writev': 311, 'kcmp': 312, 'finit_module': 313, 'kexec_file_load': 320, 'bpf': 321, 'userfaultfd': 323,
    'io_uring_enter': 426, 'io_uring_register': 427, 'open_tree': 428, 'move_mount': 429, 'fsopen': 430, 'fsconfig': 431, 'fsmount': 432, 'fspick': 433, 'pidfd_getfd': 438, 'process_madvise': 440, 'mount_setattr': 442,
    'quotactl_fd': 443, 'process_mrelease': 448, 'open_tree_attr': 467,
  },
  serve: {
    'clone (no thread)': 56, 'fork': 57, 'vfork': 58, 'execve': 59, 'execveat': 322, 'listen': 50, 'setuid': 105, 'setgid': 106, 'setreuid': 113, 'setregid': 114, 'setgroups': 116, 'setresuid': 117, 'setresgid': 119,
    'setfsuid': 122, 'setfsgid': 123, 'capset': 126,
  },
};

/** From here on calls are new enough for libraries to do without: they are told that there is no such call. */
const firstNew = 424;
const newestKnown = 469;
/** io_uring_setup and clone3. */
const replaced = [425, 435];
/** Traps that the kernel itself sets for tracing, uretprobe and uprobe; no filter sees them, and by themselves they do nothing. */
const kernelsOwn = [335, 336];

const numbers = Array.from({ length: 501 }, (_, number) => number).filter((number) => !kernelsOwn.includes(number));

function hasNumber(group: Readonly<Record<string, number>>, number: number): boolean {
  return Object.values(group).includes(number);
}

function whenServing(number: number): string {
  if (Object.values(serving).some((group) => hasNumber(group, number)) || hasNumber(partly, number)) return 'allowed';
  if (hasNumber(deadly.start, number) || hasNumber(deadly.serve, number)) return 'killed';
  if (number === socket) return 'EAFNOSUPPORT'; // of no family
  if (number === setsockopt) return 'ENOPROTOOPT'; // of no protocol's
  return number < firstNew ? 'EPERM' : 'ENOSYS';
}

function atStart(number: number): string {
  if (hasNumber(deadly.start, number)) return 'killed';
  if (number === socket) return 'EAFNOSUPPORT';
  return replaced.includes(number) || number > newestKnown ? 'ENOSYS' : 'allowed';
}

const [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK] = [1, 2, 10, 16, 17, 40];
const [SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_CLOEXEC_NONBLOCK] = [1, 2, 3, 5, 0o2004000];
const [socket, setsockopt, ioctl, fcntl, clone, prctl, prlimit64, madvise] = [41, 54, 16, 72, 56, 157, 302, 28];
const [SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6] = [0, 1, 6, 17, 41];
const [CLONE_THREAD, SIGCHLD, MSG_FASTOPEN] = [0x10000, 17, 0x20000000];
/** The upper half of an argument does not hide what the lower one says. */
const above = 2 ** 32;

/** Which arguments pass: at start, and when serving. */
const rules: ReadonlyArray<readonly [what: string, call: readonly number[], start: string, serve: string]> = [
  ['TCP and UDP over IPv4', [socket, AF_INET, SOCK_STREAM + SOCK_CLOEXEC_NONBLOCK, 6], 'allowed', 'allowed'],
  ['and IPv6', [socket, AF_INET6, SOCK_DGRAM, 17], 'allowed', 'allowed'],
  ['no local services', [socket, AF_UNIX, SOCK_STREAM, 0], 'allowed', 'EAFNOSUPPORT'],
  ['not behind an upper half', [socket, AF_UNIX + above * 2, SOCK_DGRAM, 0], 'allowed', 'EAFNOSUPPORT'],
  ['netlink at the start alone: sock_diag', [socket, AF_NETLINK, SOCK_RAW, 4], 'allowed', 'EAFNOSUPPORT'],
  ['no IPsec', [socket, AF_NETLINK, SOCK_RAW, 6], 'allowed', 'EAFNOSUPPORT'],
  ['no packets', [socket, AF_PACKET, SOCK_RAW, 0], 'EAFNOSUPPORT', 'EAFNOSUPPORT'],
  ['no virtual machines', [socket, AF_VSOCK, SOCK_STREAM, 0], 'EAFNOSUPPORT', 'EAFNOSUPPORT'],
  ['no raw TCP', [socket, AF_INET, SOCK_RAW, 6], 'allowed', 'ESOCKTNOSUPPORT'],
  ['no ICMP', [socket, AF_INET, SOCK_DGRAM, 1], 'EPROTONOSUPPORT', 'EPROTONOSUPPORT'],
  ['no SCTP', [socket, AF_INET, SOCK_SEQPACKET, 132], 'ESOCKTNOSUPPORT', 'ESOCKTNOSUPPORT'],
  ['no MPTCP', [socket, AF_INET, SOCK_STREAM, 262], 'EPROTONOSUPPORT', 'EPROTONOSUPPORT'],
  ['no connecting by a send', [44, 3, 0, 0, MSG_FASTOPEN], 'EOPNOTSUPP', 'EOPNOTSUPP'],
  ['of one message', [46, 3, 0, MSG_FASTOPEN], 'EOPNOTSUPP', 'EOPNOTSUPP'],
  ['or several', [307, 3, 0, 1, MSG_FASTOPEN], 'EOPNOTSUPP', 'EOPNOTSUPP'],
  ['socketpair, which sends to any path', [53, AF_UNIX, SOCK_DGRAM, 0], 'allowed', 'EPERM'],

  ['a connection is kept alive (SO_KEEPALIVE)', [setsockopt, 3, SOL_SOCKET, 9], 'allowed', 'allowed'],
  ['after how long (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)', [setsockopt, 3, SOL_TCP, 4], 'allowed', 'allowed'],
  ['again', [setsockopt, 3, SOL_TCP, 5], 'allowed', 'allowed'],
  ['and how often', [setsockopt, 3, SOL_TCP, 6], 'allowed', 'allowed'],
  ['sends at once (TCP_NODELAY)', [setsockopt, 3, SOL_TCP, 1], 'allowed', 'allowed'],
  ['is reset (SO_LINGER)', [setsockopt, 3, SOL_SOCKET, 13], 'allowed', 'allowed'],
  ['errors are asked for (IP_RECVERR)', [setsockopt, 3, SOL_IP, 11], 'allowed', 'allowed'],
  ['IPV6_RECVERR', [setsockopt, 3, SOL_IPV6, 25], 'allowed', 'allowed'],
  ['IPv4 over IPv6 too (IPV6_V6ONLY)', [setsockopt, 3, SOL_IPV6, 26], 'allowed', 'allowed'],
  ['no port is shared (SO_REUSEADDR)', [setsockopt, 3, SOL_SOCKET, 2], 'allowed', 'ENOPROTOOPT'],
  ['SO_REUSEPORT', [setsockopt, 3, SOL_SOCKET, 15], 'allowed', 'ENOPROTOOPT'],
  ['nor chosen without bind(2) (IP_LOCAL_PORT_RANGE)', [setsockopt, 3, SOL_IP, 51], 'allowed', 'ENOPROTOOPT'],
  ['no foreign address is a sender\'s (IPV6_FREEBIND)', [setsockopt, 3, SOL_IPV6, 78], 'allowed', 'ENOPROTOOPT'],
  ['IP_TRANSPARENT', [setsockopt, 3, SOL_IP, 19], 'allowed', 'ENOPROTOOPT'],
  ['no way around the routes (SO_BINDTODEVICE)', [setsockopt, 3, SOL_SOCKET, 25], 'allowed', 'ENOPROTOOPT'],
  ['SO_MARK', [setsockopt, 3, SOL_SOCKET, 36], 'allowed', 'ENOPROTOOPT'],
  ['no program in the kernel (SO_ATTACH_FILTER)', [setsockopt, 3, SOL_SOCKET, 26], 'allowed', 'ENOPROTOOPT'],
  ['no module on a connection (TCP_ULP)', [setsockopt, 3, SOL_TCP, 31], 'allowed', 'ENOPROTOOPT'],
  ['none of UDP (UDP_ENCAP)', [setsockopt, 3, SOL_UDP, 100], 'allowed', 'ENOPROTOOPT'],
  ['no group is joined (IP_ADD_MEMBERSHIP)', [setsockopt, 3, SOL_IP, 35], 'allowed', 'ENOPROTOOPT'],
  ['a level is none by its lower half alone', [setsockopt, 3, SOL_TCP + 0x10000, 1], 'allowed', 'ENOPROTOOPT'],
  ['nor an option', [setsockopt, 3, SOL_TCP, 0x10001], 'allowed', 'ENOPROTOOPT'],

  ['threads', [clone, CLONE_THREAD + 0xf00], 'allowed', 'allowed'],
  ['no processes', [clone, SIGCHLD], 'allowed', 'killed'],
  ['no user namespace', [clone, 0x10000000 + CLONE_THREAD], 'killed', 'killed'],
  ['no network namespace', [clone, 0x40000000 + SIGCHLD], 'killed', 'killed'],

  ['files to read', [257, -100, 0, 0o2000000], 'allowed', 'allowed'],
  ['whatever the mode', [257, -100, 0, 0, 0o7777], 'allowed', 'allowed'],
  ['folders to read', [257, -100, 0, 0o200000], 'allowed', 'allowed'],
  ['no files to write', [257, -100, 0, 1], 'allowed', 'EPERM'],
  ['nor to read and write', [257, -100, 0, 2], 'allowed', 'EPERM'],
  ['nor to make', [257, -100, 0, 0o100], 'allowed', 'EPERM'],
  ['nor to empty', [257, -100, 0, 0o1000], 'allowed', 'EPERM'],
  ['nor without a name', [257, -100, 0, 0o20200000], 'allowed', 'EPERM'],
  ['with open(2) neither', [2, 0, 0o100], 'allowed', 'EPERM'],
  ['no files to remove', [87, 0], 'allowed', 'EPERM'],
  ['at a folder neither', [263, -100, 0, 0], 'allowed', 'EPERM'],

  ['memory that comes back to the kernel', [madvise, 0, 4096, 4], 'allowed', 'allowed'],
  ['or is kept from a child', [madvise, 0, 4096, 10], 'allowed', 'allowed'],
  ['or from a core dump', [madvise, 0, 4096, 16], 'allowed', 'allowed'],
  ['not put back into one', [madvise, 0, 4096, 17], 'allowed', 'EPERM'],
  ['nor into a child', [madvise, 0, 4096, 11], 'allowed', 'EPERM'],

  ['what a socket has unsent', [ioctl, 3, 0x5411], 'allowed', 'allowed'],
  ['unread', [ioctl, 3, 0x541b], 'allowed', 'allowed'],
  ['whether it blocks', [ioctl, 3, 0x5421], 'allowed', 'allowed'],
  ['whether it is a terminal', [ioctl, 3, 0x5401], 'allowed', 'allowed'],
  ['no typing into it (TIOCSTI)', [ioctl, 3, 0x5412], 'EPERM', 'EPERM'],
  ['TIOCLINUX', [ioctl, 3, 0x541c], 'EPERM', 'EPERM'],
  ['TIOCCONS', [ioctl, 3, 0x541d], 'allowed', 'EPERM'],
  ['TIOCVHANGUP', [ioctl, 3, 0x5437], 'allowed', 'EPERM'],
  ['no setting it: node tries at its end (TCSETS)', [ioctl, 3, 0x5402], 'allowed', 'EPERM'],
  ['no signals from a descriptor (FIOSETOWN)', [ioctl, 3, 0x8901], 'allowed', 'EPERM'],
  ['no flags of files (FS_IOC_SETFLAGS)', [ioctl, 3, 0x40086602], 'allowed', 'EPERM'],
  ['FS_IOC_FSSETXATTR', [ioctl, 3, 0x401c5820], 'allowed', 'EPERM'],
  ['no virtual interfaces (TUNSETIFF)', [ioctl, 3, 0x400454ca], 'allowed', 'EPERM'],
  ['a descriptor\'s flags', [fcntl, 3, 3], 'allowed', 'allowed'],
  ['and setting them', [fcntl, 3, 4, 0o102002], 'allowed', 'allowed'],
  ['but none that signals a terminal\'s programs (O_ASYNC)', [fcntl, 3, 4, 0o22000], 'allowed', 'EPERM'],
  ['and close-on-exec', [fcntl, 3, 2], 'allowed', 'allowed'],
  ['no copy of it', [fcntl, 3, 1030], 'allowed', 'EPERM'],
  ['no signals from it (F_SETOWN)', [fcntl, 3, 8], 'EPERM', 'EPERM'],
  ['F_SETSIG', [fcntl, 3, 10], 'EPERM', 'EPERM'],
  ['F_SETOWN_EX', [fcntl, 3, 15], 'EPERM', 'EPERM'],
  ['no leases (F_SETLEASE)', [fcntl, 3, 1024], 'allowed', 'EPERM'],

  ['a name for a thread', [prctl, 15], 'allowed', 'allowed'],
  ['no tracers (PR_SET_DUMPABLE)', [prctl, 4], 'allowed', 'EPERM'],
  ['PR_SET_PTRACER', [prctl, 0x59616d61], 'allowed', 'EPERM'],
  ['limits are asked for', [prlimit64, 0, 7, 0], 'allowed', 'allowed'],
  ['not set', [prlimit64, 0, 7, 1], 'allowed', 'EPERM'],
  ['by no pointer', [prlimit64, 0, 7, above], 'allowed', 'EPERM'],
  ['its own threads are signalled', [234, self, 1, 6], 'allowed', 'allowed'],
  ['no others', [234, 1, 1, 6], 'allowed', 'EPERM'],
  ['by kill(2) not even these', [62, self, 0], 'allowed', 'EPERM'],
  ['no call of x32', [0x40000000 + 39], 'killed', 'killed'],
];

/** With a log, and with a server-info file. */
const withFlags: ReadonlyArray<readonly [what: string, call: readonly number[], serve: string]> = [
  ['files to write, where Landlock lets it', [257, -100, 0, 0o2101], 'allowed'],
  ['with open(2) too', [2, 0, 0o2101], 'allowed'],
  ['no programs', [257, -100, 0, 0o2101, 0o700], 'EPERM'],
  ['nor such as run as their owner', [257, -100, 0, 0o2101, 0o4600], 'EPERM'],
  ['with open(2) neither', [2, 0, 0o2101, 0o4600], 'EPERM'],
  ['a lock on a log', [73, 3, 6], 'allowed'],
  ['which is written down', [74, 3], 'allowed'],
  ['and its mode', [95, 0o177], 'allowed'],
  ['openat2 hides its flags', [437, -100, 0, 0, 0], 'ENOSYS'],
  ['a file to remove', [87, 0], 'allowed'],
  ['at a folder too', [263, -100, 0, 0], 'allowed'],
  ['no folder', [263, -100, 0, 0x200], 'EPERM'],
];

describe.skipIf(process.arch !== 'x64')('of the system calls 0 to 500', () => {
  test('a serving daemon makes those that it needs', async (context) => {
    needs(context, 'command cc');
    const found = await verdicts('serve', [], numbers.map((number) => [number]));
    expect(Object.fromEntries(numbers.map((number, index) => [number, found[index]]))).toEqual(Object.fromEntries(numbers.map((number) => [number, whenServing(number)])));
  });

  test('a starting daemon makes all but those that nobody needs', async (context) => {
    needs(context, 'command cc');
    const found = await verdicts('start', [], numbers.map((number) => [number]));
    expect(Object.fromEntries(numbers.map((number, index) => [number, found[index]]))).toEqual(Object.fromEntries(numbers.map((number) => [number, atStart(number)])));
  });

  test('some depend on their arguments', async (context) => {
    needs(context, 'command cc');
    const calls = rules.map(([, call]) => call);
    const [start, serve] = [await verdicts('start', [], calls), await verdicts('serve', [], calls)];
    expect(rules.map(([what], index) => [what, start[index], serve[index]])).toEqual(rules.map(([what, , first, second]) => [what, first, second]));
  });

  test('some depend on flags', async (context) => {
    needs(context, 'command cc');
    const found = await verdicts('serve', ['opens-logs', 'removes-file'], withFlags.map(([, call]) => call));
    expect(withFlags.map(([what], index) => [what, found[index]])).toEqual(withFlags.map(([what, , verdict]) => [what, verdict]));
  });
});

/** No address, and no descriptor: a kernel without walls finds these wrong, or changes nothing. */
const [bad, none] = [1, -1];

const confirmed: Readonly<Record<string, readonly [call: Call, refusal: number]>> = {
  'socketpair': [[53, AF_UNIX, SOCK_DGRAM, 0, bad], errno.EPERM],
  'a socket to local services': [[socket, AF_UNIX, SOCK_STREAM, 0], errno.EAFNOSUPPORT],
  'a netlink socket': [[socket, AF_NETLINK, SOCK_RAW, 0], errno.EAFNOSUPPORT],
  'a raw socket': [[socket, AF_INET, SOCK_RAW, 255], errno.ESOCKTNOSUPPORT],
  'bind': [[49, none, bad, 16], errno.EPERM],
  'shmget': [[29, 0x7eadbeef, 1, 0], errno.EPERM],
  'semget': [[64, 0x7eadbeef, 1, 0], errno.EPERM],
  'mq_open': [[240, bad, 0], errno.EPERM],
  'setpriority': [[141, 9, 0, 0], errno.EPERM],
  'sched_setscheduler': [[144, 0x7ffffffe, 0, bad], errno.EPERM],
  'ioprio_set': [[251, 9, 0, 0], errno.EPERM],
  'kill of another process': [[62, 0x7ffffffe, 0], errno.EPERM],
  'SO_REUSEADDR': [[setsockopt, none, SOL_SOCKET, 2, bad, 4], errno.ENOPROTOOPT],
  'O_ASYNC': [[fcntl, none, 4, 0o20000], errno.EPERM],
  'FIOSETOWN': [[ioctl, none, 0x8901, bad], errno.EPERM],
  'FS_IOC_SETFLAGS': [[ioctl, none, 0x40086602, bad], errno.EPERM],
  'PR_SET_DUMPABLE': [[prctl, 4, 99], errno.EPERM],
  'prlimit64, setting': [[prlimit64, 0, 4, bad, 0], errno.EPERM],
  'chmod': [[90, bad], errno.EPERM],
  'rename': [[82, bad, bad], errno.EPERM],
  'unlink': [[87, bad], errno.EPERM],
  'opening a file to write': [[257, none, bad, 2], errno.EPERM],
  'memfd_create': [[319, bad, 0], errno.EPERM],
  'madvise, DODUMP': [[madvise, bad, 0, 17], errno.EPERM],
  'openat2': [[437, none, bad, bad, 0], errno.ENOSYS],
  'pidfd_open': [[434, none], errno.ENOSYS],
};
const names = Object.keys(confirmed);
const calls = Object.values(confirmed).map(([call]) => call);

async function expectWalls(options: DaemonOptions, deadlyCall: Call): Promise<void> {
  const upstream = await startUpstream({ answer: answer(200, '{}') });
  const daemon = await startDaemon({ ...options, args: upstream.args });
  expect((await ask(daemon.port)).status).toBe(200); // the upstream's name was looked up in a thread made for it
  const outcomes = await inject(daemon.pid, calls);
  expect(names.map((name, index) => [name, outcomes[index]])).toEqual(names.map((name) => [name, confirmed[name]?.[1]]));
  const threads = readdirSync(`/proc/${daemon.pid}/task`).map(Number);
  expect(threads.length).toBeGreaterThan(5);
  for (const thread of threads) expect(await inject(thread, [[90, bad], [425, 8, bad]])).toEqual([errno.EPERM, errno.ENOSYS]);
  const facts = ['NoNewPrivs', 'Seccomp', 'CoreDumping'].map((name) => [...new Set(statusOfThreads(daemon.pid, name))]);
  expect(facts).toEqual([['1'], ['2'], ['0']]);
  const targets = readdirSync(`/proc/${daemon.pid}/fd`).map((descriptor) => readlinkSync(`/proc/${daemon.pid}/fd/${descriptor}`));
  expect(targets.filter((target) => target.includes('io_uring'))).toEqual([]);
  expect((await ask(daemon.port)).status).toBe(200);
  expect(await inject(threads.at(-1) ?? 0, [deadlyCall])).toEqual([bySeccomp]);
  expect((await daemon.waitForExit()).signal).toBe('SIGSYS');
}

describe('in a live daemon, and in each of its threads, they are refused or deadly:', () => {
  test('as root', async (context) => {
    needsInjection(context);
    await expectWalls({}, [59, bad]);
  });

  test('as a plain user', async (context) => {
    needsInjection(context);
    needs(context, 'root and a build that other users can run');
    await expectWalls({ user: nobody }, ['i386:20']);
  });

  test('on a kernel without Landlock', async (context) => {
    needsInjection(context);
    await expectWalls({ prefix: await denying('landlock_create_ruleset=ENOSYS') }, [clone, SIGCHLD]);
  });
});

test('with --unsafe-no-sandbox the same calls work', async (context) => {
  needsInjection(context);
  skipUnless(context, statusOf(process.pid, 'Seccomp') === '0', 'a seccomp profile of this machine\'s refuses some');
  const daemon = await startDaemon({ args: ['--unsafe-no-sandbox'] });
  const outcomes = await inject(daemon.pid, calls);
  expect(outcomes).toHaveLength(calls.length);
  const refused = names.filter((name, index) => outcomes[index] === confirmed[name]?.[1]);
  expect(refused).toEqual([]);
  expect(statusOf(daemon.pid, 'NoNewPrivs')).toBe('1');
  expect(statusOf(daemon.pid, 'Seccomp')).toBe('0');
  expect(await inject(daemon.pid, [['i386:20']])).toEqual([daemon.pid]);
});
