/*
 * Stage one: forbids system calls that the daemon never needs. It has to be in place before node starts: libuv creates
 * io_uring rings before any of our code runs, and seccomp does not see what goes through a ring.
 */
#include "starter.h"

#include "filter.h"
#include "syscall_numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Access to other processes, to the kernel, to the machine. Node, OpenSSL and libc make none of these calls. */
static const int never[] = {
  SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, NR_pidfd_getfd, SYS_kcmp, NR_process_madvise, NR_process_mrelease,
  SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_add_key, SYS_request_key, SYS_keyctl,
  NR_io_uring_enter, NR_io_uring_register,
  SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, NR_open_tree, NR_open_tree_attr, NR_move_mount, NR_mount_setattr,
  NR_fsopen, NR_fsconfig, NR_fsmount, NR_fspick, SYS_unshare, SYS_setns,
  SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_swapon, SYS_swapoff,
#ifdef SYS_kexec_file_load
  SYS_kexec_file_load,
#endif
  SYS_acct, SYS_quotactl, NR_quotactl_fd, SYS_syslog, SYS_vhangup, SYS_sethostname, SYS_setdomainname,
  SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex,
  SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_fanotify_init, SYS_fanotify_mark,
#ifdef __x86_64__
  SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib,
#endif
};

/* All that clone(2) takes; CLONE_NEWTIME works only with clone3(2) and unshare(2). */
static const uint32_t namespaces =
  CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

bool forbid_foreign_calls(void) {
  static struct filter filter;
  filter_begin(&filter);
  filter_only(&filter, SYS_clone, 0, namespaces, VALUES(0), KILL);
  /* Its flags are in memory, where a filter cannot look. glibc falls back to clone(2). */
  filter_calls(&filter, (const int[]){NR_clone3}, 1, REFUSE(ENOSYS));
  /* These type into the terminal, and so run commands in the shell that started the daemon. */
  filter_not(&filter, SYS_ioctl, 1, WHOLE, VALUES(TIOCSTI, TIOCLINUX), REFUSE(EPERM));
  /* Landlock's rules for ports know TCP's connect(2) alone. So: not MPTCP, not SCTP, no connecting by a send (TCP Fast Open), no ICMP. */
  filter_only(&filter, SYS_socket, 0, WHOLE, VALUES(AF_UNIX, AF_INET, AF_INET6, AF_NETLINK), REFUSE(EAFNOSUPPORT));
  filter_only(&filter, SYS_socket, 1, SOCKET_TYPE, VALUES(SOCK_STREAM, SOCK_DGRAM, SOCK_RAW), REFUSE(ESOCKTNOSUPPORT));
  filter_only(&filter, SYS_socket, 2, WHOLE, VALUES(0, IPPROTO_TCP, IPPROTO_UDP, NETLINK_SOCK_DIAG), REFUSE(EPROTONOSUPPORT));
  filter_only(&filter, SYS_sendto, 3, MSG_FASTOPEN, VALUES(0), REFUSE(EOPNOTSUPP));
  filter_only(&filter, SYS_sendmsg, 2, MSG_FASTOPEN, VALUES(0), REFUSE(EOPNOTSUPP));
  filter_only(&filter, SYS_sendmmsg, 3, MSG_FASTOPEN, VALUES(0), REFUSE(EOPNOTSUPP));
  /* These make a descriptor send signals, to any process of the same user. */
  filter_not(&filter, SYS_fcntl, 1, WHOLE, VALUES(F_SETOWN, F_SETSIG, F_SETOWN_EX), REFUSE(EPERM));
  filter_not(&filter, NR_io_uring_setup, 0, WHOLE, VALUES(STARTER_PROBE), REFUSE(STARTER_ANSWER));
  filter_calls(&filter, (const int[]){NR_io_uring_setup}, 1, REFUSE(ENOSYS));
  filter_calls(&filter, CALLS(never), KILL);
  filter_from(&filter, NEWEST_KNOWN + 1, REFUSE(ENOSYS));
  return filter_install(&filter, ALLOW, false);
}
