/*
 * deny-syscalls CALL[:ARGUMENT]=ERRNO ... -- COMMAND [ARGUMENTS]
 *
 * Runs a command for which some system calls fail, as they do on an old kernel or in a strict container:
 *
 *   deny-syscalls memfd_secret=ENOSYS mlock=EPERM -- node ...
 *   deny-syscalls socket:16=EPERM prctl:4=EPERM -- node ...     only socket(AF_NETLINK), only prctl(PR_SET_DUMPABLE)
 *
 * ARGUMENT is the call's first one, as a number. Whatever else the command does is untouched. For tests: the calls of
 * another architecture's ABI (i386 on x86-64) are not looked at, so it holds nobody in.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif

struct name {
  const char *text;
  int number;
};

static const struct name calls[] = {
  {"memfd_secret", SYS_memfd_secret}, {"mlock", SYS_mlock}, {"mlock2", SYS_mlock2}, {"madvise", SYS_madvise},
  {"prctl", SYS_prctl}, {"prlimit64", SYS_prlimit64}, {"seccomp", SYS_seccomp}, {"socket", SYS_socket},
  {"setuid", SYS_setuid}, {"setgid", SYS_setgid}, {"setgroups", SYS_setgroups},
  {"landlock_create_ruleset", SYS_landlock_create_ruleset}, {"landlock_add_rule", SYS_landlock_create_ruleset + 1},
  {"landlock_restrict_self", SYS_landlock_create_ruleset + 2},
#ifdef SYS_setrlimit
  {"setrlimit", SYS_setrlimit},
#endif
  {NULL, 0},
};

static const struct name errnos[] = {
  {"EACCES", EACCES}, {"EAFNOSUPPORT", EAFNOSUPPORT}, {"EAGAIN", EAGAIN}, {"EINVAL", EINVAL}, {"ENOMEM", ENOMEM},
  {"ENOSYS", ENOSYS}, {"EPERM", EPERM}, {"EPROTONOSUPPORT", EPROTONOSUPPORT}, {NULL, 0},
};

enum { MAX_RULES = 32, STATEMENTS_PER_RULE = 5 };

static struct sock_filter program[1 + MAX_RULES * STATEMENTS_PER_RULE + 1];
static unsigned short length;

static void emit(struct sock_filter statement) {
  program[length++] = statement;
}

static void usage(const char *about) {
  fprintf(stderr, "deny-syscalls: %s\nusage: deny-syscalls CALL[:ARGUMENT]=ERRNO ... -- COMMAND [ARGUMENTS]\n", about);
  exit(125);
}

static int look_up(const struct name *names, const char *text) {
  for (; names->text != NULL; names++) {
    if (strcmp(names->text, text) == 0) return names->number;
  }
  usage(text);
  return -1;
}

/* The accumulator holds the call's number before and after each rule. */
static void add_rule(char *rule) {
  char *error = strchr(rule, '=');
  if (error == NULL) usage(rule);
  *error++ = '\0';
  char *argument = strchr(rule, ':');
  if (argument != NULL) *argument++ = '\0';

  const unsigned number = (unsigned)look_up(calls, rule);
  const unsigned fail = SECCOMP_RET_ERRNO | (unsigned)look_up(errnos, error);
  if (argument == NULL) {
    emit((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, fail));
  } else {
    unsigned low = offsetof(struct seccomp_data, args) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
    emit((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4));
    emit((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low));
    emit((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)strtoul(argument, NULL, 0), 0, 1));
    emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, fail));
    emit((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
  }
}

int main(int count, char **arguments) {
  int next = 1;
  emit((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
  for (; next < count && strcmp(arguments[next], "--") != 0; next++) {
    if (next > MAX_RULES) usage("too many rules");
    add_rule(arguments[next]);
  }
  emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  if (next + 1 >= count) usage("no command");

  struct sock_fprog filter = {length, program};
  /* Root may do it as it is, and its command keeps its privileges; anybody else has to give up new ones first. */
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0 &&
      (errno != EACCES || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)) {
    perror("deny-syscalls: cannot install the filter");
    return 125;
  }
  execvp(arguments[next + 1], arguments + next + 1);
  perror(arguments[next + 1]);
  return 127;
}
