/*
 * thread-tracer PID NAME
 *
 * As soon as the process runs a program called NAME and has more than one thread, traces the first one behind the
 * main one, which lasts as long as the process, by PTRACE_SEIZE, which stops nothing, and prints "tracing". Goes on until
 * the thread ends, which takes that its tracer hears of it. Prints "refused" where it may not.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_TRIES = 1000000 };

static int runs(const char *pid, const char *name) {
  char path[64], line[4096];
  snprintf(path, sizeof path, "/proc/%s/cmdline", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line);
  if (fd >= 0) close(fd);
  if (length <= 0) return 0;
  line[length < (ssize_t)sizeof line ? length : (ssize_t)sizeof line - 1] = '\0';
  const char *slash = strrchr(line, '/');
  return strcmp(slash == NULL ? line : slash + 1, name) == 0;
}

/* The oldest thread that is not the main one, or 0. Node starts later ones that soon end. */
static pid_t other_thread(const char *pid) {
  char path[64];
  pid_t found = 0;
  snprintf(path, sizeof path, "/proc/%s/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) return 0;
  for (struct dirent *entry; found == 0 && (entry = readdir(tasks)) != NULL;) {
    pid_t thread = atoi(entry->d_name);
    if (thread > 0 && thread != atoi(pid)) found = thread;
  }
  closedir(tasks);
  return found;
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  for (int tries = 0; tries < MAX_TRIES; tries++) {
    pid_t thread = runs(arguments[1], arguments[2]) ? other_thread(arguments[1]) : 0;
    if (thread == 0) continue;
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0) break;
    puts("tracing");
    fflush(stdout);
    for (int status; waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status);) {
      int signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
      ptrace(PTRACE_CONT, thread, NULL, (void *)(long)signal);
    }
    return 0;
  }
  puts("refused");
  return 0;
}
