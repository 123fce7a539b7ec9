/*
 * Stage two: forbids system calls that only the start needed. The addon installs it once the daemon listens, has given up
 * root and has written its server-info file. From then on it only reads, writes and uses connections.
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

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef O_TMPFILE
#define O_TMPFILE 020000000
#endif

static const int killed[] = {
  SYS_execve, SYS_execveat, SYS_listen,
  SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups, SYS_capset,
#ifdef __x86_64__
  SYS_fork, SYS_vfork,
#endif
};

/* Changes to anything about a file but its content; links and folders; memfds; limits; signals to other processes. */
static const int refused[] = {
  SYS_fchmod, SYS_fchmodat, NR_fchmodat2, SYS_fchown, SYS_fchownat, SYS_truncate, SYS_utimensat, NR_file_setattr,
  SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, NR_setxattrat, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, NR_removexattrat,
  SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_mknodat, SYS_mkdirat,
#ifdef SYS_renameat
  SYS_renameat,
#endif
#ifdef __x86_64__
  SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat,
  SYS_rename, SYS_link, SYS_symlink, SYS_mknod, SYS_mkdir, SYS_rmdir, SYS_creat,
#endif
  SYS_memfd_create, NR_memfd_secret, SYS_setrlimit,
  SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, NR_pidfd_open, NR_pidfd_send_signal,
};

/* Local services, systemd's and a container engine's among them, start programs for their users. Name services: libc does without. */
static const uint32_t local_services[] = {AF_UNIX};

/* Would open the process to tracers of the same user. */
static const uint32_t opening[] = {PR_SET_DUMPABLE, PR_SET_PTRACER};

/* O_TMPFILE includes O_DIRECTORY, which readers of folders set too. */
static const uint32_t writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);

bool forbid_start_calls(bool opens_logs) {
  static struct filter filter;
  const uint32_t self[] = {(uint32_t)getpid()};
  filter_begin(&filter);
  if (!opens_logs) {
    filter_any_bit(&filter, SYS_openat, 2, writing, REFUSE(EPERM));
#ifdef __x86_64__
    filter_any_bit(&filter, SYS_open, 1, writing, REFUSE(EPERM));
#endif
  }
  /* Its flags are in memory, where a filter cannot look. libc and libuv fall back to openat(2). */
  filter_calls(&filter, (const int[]){NR_openat2}, 1, REFUSE(ENOSYS));
  filter_missing_bit(&filter, SYS_clone, 0, CLONE_THREAD, KILL);
  filter_pointer(&filter, SYS_prlimit64, 2, REFUSE(EPERM)); /* the new limit; NULL only reads the current one */
  /* abort(3) signals its own process; no other may be signalled. */
  filter_other_values(&filter, SYS_kill, 0, CALLS(self), REFUSE(EPERM));
  filter_other_values(&filter, SYS_tgkill, 0, CALLS(self), REFUSE(EPERM));
  filter_values(&filter, SYS_socket, 0, CALLS(local_services), REFUSE(EAFNOSUPPORT));
  filter_values(&filter, SYS_prctl, 0, CALLS(opening), REFUSE(EPERM));
  filter_any_bit(&filter, SYS_unlinkat, 2, AT_REMOVEDIR, REFUSE(EPERM)); /* removing a file stays allowed: the server-info file */
  filter_calls(&filter, CALLS(killed), KILL);
  filter_calls(&filter, CALLS(refused), REFUSE(EPERM));
  return filter_install(&filter);
}
