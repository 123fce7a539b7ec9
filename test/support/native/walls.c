/*
 * walls start|serve [opens-logs] [removes-file] < CALLS
 *
 * What do the filters make of a call? Each line of standard input is one: its number and up to five
 * arguments; 4294967295000 stands for the process itself. For each comes
 * a line of standard output: `allowed`, `killed`, the errno that it is refused with, or `signal N` that ended it otherwise.
 *
 * No call is made: a filter below ours refuses each one that has a mark in its sixth argument, with an errno of its own. What
 * a filter above it refuses or kills, the kernel takes from there. Compiled together with src/native/filter.c and the filters.
 */
#include "native.h"
#include "filter.h"
#include "starter.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_CALLS = 8192, ARGUMENTS = 5, ALLOWED = 4000 };

static const uint32_t mark = 0x57a115;
static const long self = 4294967295000;

struct call {
  long number, arguments[ARGUMENTS];
};

static struct call calls[MAX_CALLS];

static void die(const char *what) {
  perror(what);
  _exit(125);
}

static void refuse_marked(void) {
  static struct filter filter;
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, mark, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, REFUSE(ALLOWED)),
  };
  memcpy(filter.code, code, sizeof code);
  filter.length = sizeof code / sizeof *code;
  if (!filter_install(&filter, ALLOW, false)) die("walls: the filter below");
}

/* A child judges from `first` on, until one call kills it. */
static void judge(int outcomes[], size_t first, size_t count, int stage_two, int opens_logs, int removes_file) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die("walls: prctl");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no core files */
  refuse_marked();
  if (!forbid_foreign_calls() || (stage_two && !forbid_start_calls(opens_logs, removes_file))) die("walls: the filters");
  long own = getpid();
  for (size_t i = first; i < count; i++) {
    struct call *call = &calls[i];
    for (int j = 0; j < ARGUMENTS; j++) {
      if (call->arguments[j] == self) call->arguments[j] = own;
    }
    errno = 0;
    outcomes[i] = -1;
    syscall(call->number, call->arguments[0], call->arguments[1], call->arguments[2], call->arguments[3], call->arguments[4], (long)mark);
    outcomes[i] = errno;
  }
  syscall(SYS_getpid, 0L, 0L, 0L, 0L, 0L, 0L); /* takes the mark from its register */
  _exit(0);
}

int main(int count, char **arguments) {
  size_t length = 0;
  char line[256];
  while (length < MAX_CALLS && fgets(line, sizeof line, stdin) != NULL) {
    char *at = line;
    calls[length].number = strtol(at, &at, 0);
    for (int i = 0; i < ARGUMENTS; i++) calls[length].arguments[i] = (long)strtoull(at, &at, 0);
    length++;
  }
  int opens_logs = 0, removes_file = 0, stage_two = count > 1 && strcmp(arguments[1], "serve") == 0;
  for (int i = 2; i < count; i++) {
    if (strcmp(arguments[i], "opens-logs") == 0) opens_logs = 1;
    if (strcmp(arguments[i], "removes-file") == 0) removes_file = 1;
  }
  int *outcomes = mmap(NULL, MAX_CALLS * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (outcomes == MAP_FAILED) die("walls: mmap");
  for (size_t done = 0; done < length;) {
    int status;
    pid_t child = fork();
    if (child == 0) judge(outcomes, done, length, stage_two, opens_logs, removes_file);
    if (waitpid(child, &status, 0) != child) die("walls: waitpid");
    if (WIFEXITED(status)) {
      if (WEXITSTATUS(status) != 0) return 125;
      break;
    }
    while (outcomes[done] > 0) done++;
    outcomes[done++] = -WTERMSIG(status);
  }
  for (size_t i = 0; i < length; i++) {
    if (outcomes[i] == ALLOWED) puts("allowed");
    else if (outcomes[i] == -SIGSYS) puts("killed");
    else if (outcomes[i] < 0) printf("signal %d\n", -outcomes[i]);
    else printf("%d\n", outcomes[i]);
  }
  return 0;
}
