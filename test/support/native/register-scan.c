/*
 * register-scan PID < NEEDLES
 *
 * Traces a process's main thread, as root, and looks through its vector registers at the beginning and the end of each
 * system call. Standard input holds the needles, one to a line. Prints "tracing" once it has begun. When the process has
 * ended, it prints how often it has looked, and how often one of the registers had 16 bytes in a row of a needle:
 *
 *   {"looks":N,"found":N}
 */
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

#if defined __x86_64__
enum { VECTOR_REGISTERS = NT_X86_XSTATE };
#else
enum { VECTOR_REGISTERS = NT_PRFPREG };
#endif

enum {
  MIN_MATCH_BYTES = 16,
  MAX_NEEDLE_BYTES = 1 << 20,
  MAX_STATE_BYTES = 1 << 14, /* of all registers together, AMX included */
};

static char needles[MAX_NEEDLE_BYTES];
static size_t needle_bytes;

static void die(const char *what) {
  fprintf(stderr, "register-scan: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* The needles stay apart: none has a line feed. */
static bool has_needle(pid_t thread) {
  unsigned char state[MAX_STATE_BYTES];
  struct iovec vector = {state, sizeof state};
  if (ptrace(PTRACE_GETREGSET, thread, (void *)(long)VECTOR_REGISTERS, &vector) != 0) die("registers");
  for (size_t at = 0; at + MIN_MATCH_BYTES <= vector.iov_len; at += MIN_MATCH_BYTES) {
    if (memmem(needles, needle_bytes, state + at, MIN_MATCH_BYTES) != NULL) return true;
  }
  return false;
}

int main(int count, char **arguments) {
  pid_t pid = count == 2 ? atoi(arguments[1]) : 0;
  needle_bytes = fread(needles, 1, sizeof needles, stdin);
  if (pid <= 0 || needle_bytes < MIN_MATCH_BYTES) {
    fprintf(stderr, "usage: register-scan PID < NEEDLES\n");
    return 2;
  }
  if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)(long)PTRACE_O_TRACESYSGOOD) != 0) die("PTRACE_SEIZE");
  if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0) die("PTRACE_INTERRUPT");
  puts("tracing");
  fflush(stdout);

  unsigned long looks = 0, found = 0;
  for (int status; waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status);) {
    bool is_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
    bool is_signal = !is_call && status >> 16 == 0;
    if (is_call) {
      looks++;
      if (has_needle(pid)) found++;
    }
    ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(long)(is_signal ? WSTOPSIG(status) : 0));
  }
  printf("{\"looks\":%lu,\"found\":%lu}\n", looks, found);
  return 0;
}
