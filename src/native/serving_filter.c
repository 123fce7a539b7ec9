/*
 * Stage two: what only the start needed. It is for the addon to close these, once the daemon listens, has given up root
 * and has written its server-info file. All that is left to do then is to read, to write and to talk.
 *
 * Death is for calls that nobody but an attacker makes; an error for those that a library may try and do without.
 *
 * Tried, and not worth it:
 * - PR_SET_MDWE ends WebAssembly, which undici's parser is.
 * - Landlock from here would miss libuv's and V8's threads, which are there already: see starter_landlock.c.
 * - node's --disallow-code-generation-from-strings rejects its code cache: 7 to 11 ms of every start. Frozen intrinsics
 *   take 9 to 15 ms.
 * - a compile cache on disk would win some of that back, and let whoever can write to its folder plant code.
 * - --openssl-config=/dev/null drops the crypto policy of the machine (RHEL).
 */
#include "filter.h"
#include "syscall_numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
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

/* Changes to files other than their content, new ones that are none, memory with a descriptor, limits, signals to others. */
static const int refused[] = {
  SYS_fchmod, SYS_fchmodat, SYS_fchmodat2, SYS_fchown, SYS_fchownat, SYS_truncate, SYS_utimensat, SYS_file_setattr,
  SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_setxattrat, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_removexattrat,
  SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_mknodat, SYS_mkdirat,
#ifdef SYS_renameat
  SYS_renameat,
#endif
#ifdef __x86_64__
  SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat,
  SYS_rename, SYS_link, SYS_symlink, SYS_mknod, SYS_mkdir, SYS_rmdir, SYS_creat,
#endif
  SYS_memfd_create, SYS_memfd_secret, SYS_setrlimit,
  SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_open, SYS_pidfd_send_signal,
};

/* O_TMPFILE holds the bit of O_DIRECTORY, with which reading is harmless. */
static const uint32_t writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);

struct failure close_start_calls(bool opens_logs) {
  static struct filter filter;
  const uint32_t self[] = {(uint32_t)getpid()};
  filter_begin(&filter);
  if (!opens_logs) {
    filter_any_bit(&filter, SYS_openat, 2, writing, REFUSE(EPERM));
#ifdef __x86_64__
    filter_any_bit(&filter, SYS_open, 1, writing, REFUSE(EPERM));
#endif
  }
  /* Its flags are in memory, where a filter cannot look. */
  filter_calls(&filter, (const int[]){SYS_openat2}, 1, REFUSE(ENOSYS));
  filter_missing_bit(&filter, SYS_clone, 0, CLONE_THREAD, KILL);
  filter_pointer(&filter, SYS_prlimit64, 2, REFUSE(EPERM)); /* new limits; without, it tells those that hold */
  /* abort(3) signals its own process. */
  filter_other_values(&filter, SYS_kill, 0, CALLS(self), REFUSE(EPERM));
  filter_other_values(&filter, SYS_tgkill, 0, CALLS(self), REFUSE(EPERM));
  filter_any_bit(&filter, SYS_unlinkat, 2, AT_REMOVEDIR, REFUSE(EPERM)); /* unlinking stays, for the server-info file */
  filter_calls(&filter, CALLS(killed), KILL);
  filter_calls(&filter, CALLS(refused), REFUSE(EPERM));
  return filter_install(&filter);
}
