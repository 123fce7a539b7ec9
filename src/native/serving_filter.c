/*
 * Stage two: allows the system calls that a serving daemon makes, and no other. The addon installs it once the daemon
 * listens, has given up root and has written its server-info file.
 *
 * What is not on the list fails as on a kernel that lacks it (ENOSYS, newer calls) or refuses it (EPERM, older ones): libc,
 * libuv and V8 then do without. The kernel logs each such call with its number, so that a call that a later Node needs shows.
 * The list is what Node 20 to 26 call in the tests, and what abort, musl or a machine without a vDSO add.
 *
 * Tried, and not worth it:
 * - PR_SET_MDWE breaks WebAssembly, and undici's parser is WebAssembly.
 * - Landlock from here would miss the threads that libuv and V8 have already created. starter_landlock.c does it.
 * - Node's --disallow-code-generation-from-strings invalidates its code cache: 7 to 11 ms at every start. Frozen
 *   intrinsics cost 9 to 15 ms.
 * - A compile cache on disk would win time back, but other users who can write to its folder could plant code.
 * - --openssl-config=/dev/null drops the system's crypto policy (RHEL).
 */
#include "filter.h"
#include "syscall_numbers.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef O_TMPFILE
#define O_TMPFILE 020000000
#endif

/* What no code of node's, only an attacker's, would try here: programs, other users, new listeners. */
static const int killed[] = {
  SYS_execve, SYS_execveat, SYS_listen,
  SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups, SYS_capset,
#ifdef __x86_64__
  SYS_fork, SYS_vfork,
#endif
};

/* Whatever their arguments; the most frequent first, for kernels before 5.11. */
static const int allowed[] = {
  /* what is open is read, written, waited for and closed */
  SYS_read, SYS_write, SYS_epoll_pwait, SYS_writev, SYS_epoll_ctl, SYS_close, SYS_readv, SYS_pread64, SYS_lseek, SYS_ppoll,
  /* connections are accepted, made, used and ended */
  SYS_accept4, SYS_socket, SYS_shutdown, SYS_connect, SYS_getsockopt, SYS_getsockname, SYS_getpeername,
  SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg,
  /* threads wait for each other, and end */
  SYS_futex, SYS_exit, SYS_exit_group, SYS_set_robust_list, NR_rseq, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam,
  SYS_sched_getscheduler, SYS_nanosleep, SYS_clock_nanosleep, SYS_restart_syscall,
  /* memory comes and goes */
  SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_brk,
  /* the time, chance, and who we are */
  SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_uname,
  /* signals arrive */
  SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
  /* files are looked at */
  SYS_fstat, SYS_newfstatat, SYS_statx, SYS_readlinkat,
#ifdef __x86_64__
  SYS_poll, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_time,
#endif
#ifndef __GLIBC__
  SYS_bind, /* musl's resolver */
#endif
  NR_clone3, /* stage one refuses it; here it would be logged with every thread */
};

/* These too, if a rule about their arguments has let them pass. */
static const int allowed_in_part[] = {
  SYS_openat, SYS_madvise, SYS_setsockopt, SYS_ioctl, SYS_fcntl, SYS_clone, SYS_prctl, SYS_prlimit64, SYS_tgkill,
#ifdef __x86_64__
  SYS_open,
#endif
};

/* A lock on a file that others lock would hold them up. */
static const int logging[] = {SYS_flock, SYS_fsync, SYS_umask};

static const int removing[] = {
  SYS_unlinkat,
#ifdef __x86_64__
  SYS_unlink,
#endif
};

/* O_TMPFILE includes O_DIRECTORY, which readers of folders set too. */
static const uint32_t making = O_CREAT | (O_TMPFILE & ~O_DIRECTORY), writing = O_WRONLY | O_RDWR | O_TRUNC;

/* What a new file's mode may not have: with set-user-ID, a program that is written as root would be root's for everybody. */
static const uint32_t programs = S_ISUID | S_ISGID | S_ISVTX | S_IXUSR | S_IXGRP | S_IXOTH;

static void filter_opening(struct filter *filter, int call, unsigned flags, bool opens_logs) {
  if (!opens_logs) filter_only(filter, call, flags, making | writing, VALUES(0), REFUSE(EPERM));
  filter_not(filter, call, flags, making, VALUES(0), ALLOW); /* the mode is anything then */
  filter_only(filter, call, flags + 1, programs, VALUES(0), REFUSE(EPERM));
}

/*
 * TCP and UDP, over IPv4 and IPv6. Not AF_UNIX: systemd and container engines start programs for their users. A filter of
 * its own, because libc tries AF_UNIX (nscd) and AF_NETLINK at each lookup of a name, and the log is for what is new.
 */
static bool forbid_sockets(void) {
  static struct filter filter;
  filter_begin(&filter);
  filter_only(&filter, SYS_socket, 0, WHOLE, VALUES(AF_INET, AF_INET6), REFUSE(EAFNOSUPPORT));
  filter_only(&filter, SYS_socket, 1, SOCKET_TYPE, VALUES(SOCK_STREAM, SOCK_DGRAM), REFUSE(ESOCKTNOSUPPORT));
  filter_only(&filter, SYS_socket, 2, WHOLE, VALUES(0, IPPROTO_TCP, IPPROTO_UDP), REFUSE(EPROTONOSUPPORT));
  return filter_install(&filter, ALLOW, false);
}

/*
 * Not those that take a port or an address without bind(2), also another process's, go around the machine's routes, or put
 * programs and modules of the kernel on a socket, which may be a service manager's.
 */
static void filter_socket_options(struct filter *filter) {
  const uint32_t refusal = REFUSE(ENOPROTOOPT);
  filter_only(filter, SYS_setsockopt, 1, WHOLE, VALUES(IPPROTO_TCP, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6), refusal);
  filter_only_after(filter, SYS_setsockopt, 1, IPPROTO_TCP, WHOLE, VALUES(TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT), refusal);
  filter_only_after(filter, SYS_setsockopt, 1, SOL_SOCKET, WHOLE, VALUES(SO_KEEPALIVE, SO_LINGER), refusal);
  filter_only_after(filter, SYS_setsockopt, 1, IPPROTO_IP, WHOLE, VALUES(IP_RECVERR), refusal); /* glibc's resolver */
  filter_only_after(filter, SYS_setsockopt, 1, IPPROTO_IPV6, WHOLE, VALUES(IPV6_RECVERR, IPV6_V6ONLY), refusal); /* musl's */
}

bool forbid_start_calls(bool opens_logs, bool removes_file) {
  static struct filter filter;
  filter_begin(&filter);
  filter_opening(&filter, SYS_openat, 2, opens_logs);
#ifdef __x86_64__
  filter_opening(&filter, SYS_open, 1, opens_logs);
#endif
  /* Neither MADV_DODUMP nor MADV_DOFORK, which undo what protects the key's memory. */
  filter_only(&filter, SYS_madvise, 2, WHOLE, VALUES(MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_DONTDUMP), REFUSE(EPERM));
  filter_only(&filter, SYS_ioctl, 1, WHOLE, VALUES(SIOCOUTQ, FIONREAD, FIONBIO, TCGETS), REFUSE(EPERM));
  filter_only(&filter, SYS_fcntl, 1, WHOLE, VALUES(F_GETFD, F_SETFD, F_GETFL, F_SETFL), REFUSE(EPERM));
  filter_only_after(&filter, SYS_fcntl, 1, F_SETFL, O_ASYNC, VALUES(0), REFUSE(EPERM)); /* signals what runs in a terminal */
  filter_socket_options(&filter);
  filter_only(&filter, SYS_clone, 0, CLONE_THREAD, VALUES(CLONE_THREAD), KILL);
  filter_only(&filter, SYS_prctl, 0, WHOLE, VALUES(PR_SET_NAME), REFUSE(EPERM));
  filter_pointer(&filter, SYS_prlimit64, 2, REFUSE(EPERM)); /* the new limit; NULL only reads the current one */
  filter_only(&filter, SYS_tgkill, 0, WHOLE, VALUES((uint32_t)getpid()), REFUSE(EPERM)); /* abort(3); no other process */
  filter_calls(&filter, CALLS(allowed_in_part), ALLOW);
  filter_calls(&filter, CALLS(allowed), ALLOW); /* not first: a kernel that remembers them asks the filter about the others alone */
  if (opens_logs) filter_calls(&filter, CALLS(logging), ALLOW);
  if (removes_file) {
    filter_only(&filter, SYS_unlinkat, 2, WHOLE, VALUES(0), REFUSE(EPERM)); /* no folders */
    filter_calls(&filter, CALLS(removing), ALLOW);
  }
  filter_calls(&filter, CALLS(killed), KILL);
  filter_from(&filter, NR_pidfd_send_signal, REFUSE(ENOSYS));
  return forbid_sockets() && filter_install(&filter, REFUSE(EPERM), true);
}
