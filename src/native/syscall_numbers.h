/*
 * Numbers of system calls: SYS_ from the kernel's headers, NR_ for those that old headers lack. Since Linux 5.0 a new
 * call has the same number on every architecture.
 */
#ifndef SYSCALL_NUMBERS_H
#define SYSCALL_NUMBERS_H

#include <sys/syscall.h>

#ifdef __x86_64__
enum { NR_rseq = 334 }; /* Linux 4.18 */
#else
enum { NR_rseq = 293 };
#endif

enum {
  NR_pidfd_send_signal = 424, /* the first of them */
  NR_io_uring_setup,
  NR_io_uring_enter,
  NR_io_uring_register,
  NR_open_tree,
  NR_move_mount,
  NR_fsopen,
  NR_fsconfig,
  NR_fsmount,
  NR_fspick,
  NR_pidfd_open,
  NR_clone3,
  NR_openat2 = 437,
  NR_pidfd_getfd,
  NR_faccessat2,
  NR_process_madvise = 440,
  NR_mount_setattr = 442,
  NR_quotactl_fd,
  NR_landlock_create_ruleset,
  NR_landlock_add_rule,
  NR_landlock_restrict_self,
  NR_memfd_secret,
  NR_process_mrelease,
  NR_fchmodat2 = 452,
  NR_setxattrat = 463,
  NR_removexattrat = 466,
  NR_open_tree_attr,
  NR_file_setattr = 469,

  NEWEST_KNOWN = NR_file_setattr, /* to the filters, of Linux 6.18 */
};

#endif
