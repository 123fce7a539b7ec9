/*
 * inject THREAD < CALLS
 *
 * Makes a thread of another process call the kernel, as code that got into it would: by ptrace(2), as root, on x86-64.
 * Each line of standard input is a call: its number, then its arguments, separated by tabs; `@6869` stands for the
 * address of these bytes. `i386:` before the number makes it int 0x80. For each comes a line on standard output: what it returned, or
 * `killed N` once the process was ended by signal N. A child that comes of it is killed at once.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 6, STRING_ROOM = 4096, RED_ZONE = 256, MAX_TRIES = 2000, INSTRUCTION_BYTES = 2 };

static const uint16_t syscall_instruction = 0x050f, int_80_instruction = 0x80cd;

static pid_t thread;

static void die(const char *what) {
  fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void must(long result, const char *what) {
  if (result == -1) die(what);
}

static void ended(int status) {
  printf("killed %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  exit(0);
}

/* Waits until the thread stands still; ends this program if that never comes again. */
static int wait_for_stop(void) {
  int status;
  must(waitpid(thread, &status, __WALL), "waitpid");
  if (!WIFSTOPPED(status)) ended(status);
  return status;
}

static uint16_t instruction_at(uint64_t address) {
  errno = 0;
  return (uint16_t)ptrace(PTRACE_PEEKTEXT, thread, address, NULL);
}

/* Stops it in a system call, behind whose instruction it then stands. */
static struct user_regs_struct stop(void) {
  struct user_regs_struct registers;
  for (int tries = 0; tries < MAX_TRIES; tries++) {
    must(ptrace(PTRACE_INTERRUPT, thread, NULL, NULL), "PTRACE_INTERRUPT");
    wait_for_stop();
    must(ptrace(PTRACE_GETREGS, thread, NULL, &registers), "PTRACE_GETREGS");
    if (instruction_at(registers.rip - INSTRUCTION_BYTES) == syscall_instruction) return registers;
    must(ptrace(PTRACE_CONT, thread, NULL, NULL), "PTRACE_CONT");
    usleep(1000);
  }
  die("it never waits");
  return registers;
}

static void poke(uint64_t address, const void *bytes, size_t length) {
  for (size_t at = 0; at < length; at += sizeof(long)) {
    long word = 0;
    memcpy(&word, (const char *)bytes + at, length - at < sizeof word ? length - at : sizeof word);
    must(ptrace(PTRACE_POKEDATA, thread, address + at, word), "PTRACE_POKEDATA");
  }
}

static void kill_child(void) {
  unsigned long child;
  must(ptrace(PTRACE_GETEVENTMSG, thread, NULL, &child), "PTRACE_GETEVENTMSG");
  kill((pid_t)child, SIGKILL);
  int status;
  do {
    if (waitpid((pid_t)child, &status, __WALL) == -1) return;
  } while (WIFSTOPPED(status));
}

static long long run(const struct user_regs_struct *before, struct user_regs_struct registers, uint16_t instruction) {
  uint64_t place = before->rip - INSTRUCTION_BYTES;
  errno = 0;
  long original = ptrace(PTRACE_PEEKTEXT, thread, place, NULL);
  must(ptrace(PTRACE_POKETEXT, thread, place, (original & ~0xffffL) | instruction), "PTRACE_POKETEXT");
  registers.rip = place;
  registers.orig_rax = (unsigned long long)-1; /* the call that was interrupted is not to be begun again instead */
  must(ptrace(PTRACE_SETREGS, thread, NULL, &registers), "PTRACE_SETREGS");
  for (;;) {
    must(ptrace(PTRACE_SINGLESTEP, thread, NULL, NULL), "PTRACE_SINGLESTEP");
    int status = wait_for_stop(), event = status >> 16;
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) kill_child();
    must(ptrace(PTRACE_GETREGS, thread, NULL, &registers), "PTRACE_GETREGS");
    if (registers.rip == place + INSTRUCTION_BYTES && event == 0) break;
  }
  must(ptrace(PTRACE_POKETEXT, thread, place, original), "PTRACE_POKETEXT");
  return (long long)registers.rax;
}

static void call(char *line, const struct user_regs_struct *before) {
  struct user_regs_struct registers = *before;
  uint64_t arguments[MAX_ARGUMENTS] = {0}, room = (before->rsp - RED_ZONE - STRING_ROOM) & ~15ULL;
  char *word = strtok(line, "\t");
  int is_i386 = strncmp(word, "i386:", 5) == 0;
  registers.rax = strtoull(is_i386 ? word + 5 : word, NULL, 0);
  for (int i = 0; i < MAX_ARGUMENTS && (word = strtok(NULL, "\t")) != NULL; i++) {
    if (*word != '@') {
      arguments[i] = strtoull(word, NULL, 0); /* negative ones too */
      continue;
    }
    unsigned char bytes[STRING_ROOM];
    size_t length = 0;
    for (unsigned byte; sscanf(word + 1 + 2 * length, "%2x", &byte) == 1; length++) bytes[length] = (unsigned char)byte;
    poke(room, bytes, length);
    arguments[i] = room;
    room += (length + 15) & ~15ULL;
  }
  registers.rdi = arguments[0];
  registers.rsi = arguments[1];
  registers.rdx = arguments[2];
  registers.r10 = arguments[3];
  registers.r8 = arguments[4];
  registers.r9 = arguments[5];
  printf("%lld\n", run(before, registers, is_i386 ? int_80_instruction : syscall_instruction));
}

int main(int count, char **arguments) {
  static char line[STRING_ROOM];
  if (count != 2) return 125;
  thread = (pid_t)atoi(arguments[1]);
  setvbuf(stdout, NULL, _IOLBF, 0);
  /* Children are not followed before it stands still: in a clone(2) of its own, the kernel would put that call's result over ours. */
  must(ptrace(PTRACE_SEIZE, thread, NULL, NULL), "PTRACE_SEIZE");
  struct user_regs_struct before = stop();
  must(ptrace(PTRACE_SETOPTIONS, thread, NULL, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE), "PTRACE_SETOPTIONS");
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (*line != '\0') call(line, &before);
  }
  must(ptrace(PTRACE_SETREGS, thread, NULL, &before), "PTRACE_SETREGS");
  must(ptrace(PTRACE_DETACH, thread, NULL, NULL), "PTRACE_DETACH");
  return 0;
}
