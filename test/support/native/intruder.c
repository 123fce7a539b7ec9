/*
 * intruder PID
 *
 * Tries each way into another process that its own user has by default, and prints one line for each: its name, then
 * "open" where it led somewhere, else "refused" or "empty". Nothing is changed in the process.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static const char *const files[] = {"environ", "maps", "smaps", "numa_maps", "pagemap", "auxv", "io", "syscall", "stack", "personality", NULL};
static const char *const folders[] = {"fd", "fdinfo", "map_files", NULL};
static const char *const links[] = {"cwd", "exe", "root", "fd/0", "fd/1", "fd/2", NULL};

static pid_t target;

static void say(const char *name, bool led_somewhere, bool empty) {
  printf("%s %s\n", name, led_somewhere ? "open" : empty ? "empty" : "refused");
}

static const char *path_of(const char *file) {
  static char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", target, file);
  return path;
}

static void try_file(const char *name) {
  unsigned char byte;
  int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? -1 : read(fd, &byte, 1);
  say(name, got > 0, got == 0);
  if (fd >= 0) close(fd);
}

static void try_folder(const char *name) {
  DIR *folder = opendir(path_of(name));
  int entries = 0;
  if (folder != NULL) {
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) entries += entry->d_name[0] != '.';
    closedir(folder);
  }
  say(name, entries > 0, folder != NULL);
}

static void try_link(const char *name) {
  char text[4096];
  say(name, readlink(path_of(name), text, sizeof text) >= 0, false);
}

/* Any mapped address would do, but who may not look does not know one. The permission is judged before the address. */
static void try_memory(void) {
  unsigned char byte;
  int fd = open(path_of("mem"), O_RDONLY | O_CLOEXEC);
  bool opened = fd >= 0;
  say("mem", opened, false);
  if (opened) close(fd);

  fd = open(path_of("mem"), O_RDWR | O_CLOEXEC);
  say("mem-write", fd >= 0, false);
  if (fd >= 0) close(fd);

  struct iovec local = {&byte, 1}, remote = {(void *)(uintptr_t)4096, 1};
  long got = syscall(SYS_process_vm_readv, target, &local, 1UL, &remote, 1UL, 0UL);
  say("process_vm_readv", got >= 0 || errno == EFAULT, false);
}

static void try_descriptors(void) {
  int pidfd = (int)syscall(SYS_pidfd_open, target, 0);
  say("pidfd_getfd", pidfd >= 0 && syscall(SYS_pidfd_getfd, pidfd, 2, 0) >= 0, false);
  say("kcmp", syscall(SYS_kcmp, getpid(), target, KCMP_FILE, 0UL, 0UL) >= 0, false);
}

static void try_tracing(void) {
  bool seized = ptrace(PTRACE_SEIZE, target, NULL, NULL) == 0;
  say("ptrace-seize", seized, false);
  if (seized) {
    ptrace(PTRACE_INTERRUPT, target, NULL, NULL);
    waitpid(target, NULL, __WALL);
    ptrace(PTRACE_DETACH, target, NULL, NULL);
  }
  bool attached = ptrace(PTRACE_ATTACH, target, NULL, NULL) == 0;
  say("ptrace-attach", attached, false);
  if (attached) {
    waitpid(target, NULL, __WALL);
    ptrace(PTRACE_DETACH, target, NULL, NULL);
  }
}

int main(int count, char **arguments) {
  target = count == 2 ? atoi(arguments[1]) : 0;
  if (target <= 0) {
    fprintf(stderr, "usage: intruder PID\n");
    return 2;
  }
  for (const char *const *file = files; *file != NULL; file++) try_file(*file);
  for (const char *const *folder = folders; *folder != NULL; folder++) try_folder(*folder);
  for (const char *const *link = links; *link != NULL; link++) try_link(*link);
  try_memory();
  try_descriptors();
  try_tracing();
  return 0;
}
