/*
 * early-bird PID NAME
 *
 * Opens /proc/PID/mem as soon as the process runs a program called NAME, for a descriptor is good for as long as it
 * is open, whatever the process forbids later. Prints "in time" or "too late". Then each line on standard input is
 * searched for through that descriptor; it prints how often it was found.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 20, MAX_TRIES = 1000000 };

static int open_of(const char *pid, const char *file) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/%s", pid, file);
  return open(path, O_RDONLY | O_CLOEXEC);
}

static int runs(const char *pid, const char *name) {
  char line[4096];
  int fd = open_of(pid, "cmdline");
  ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line);
  if (fd >= 0) close(fd);
  if (length <= 0) return 0;
  line[length < (ssize_t)sizeof line ? length : (ssize_t)sizeof line - 1] = '\0';
  const char *slash = strrchr(line, '/');
  return strcmp(slash == NULL ? line : slash + 1, name) == 0;
}

static unsigned count_in(int memory, uint64_t from, uint64_t to, const char *needle, size_t length) {
  static char chunk[CHUNK_BYTES];
  unsigned found = 0;
  while (from < to) {
    ssize_t got = pread(memory, chunk, to - from < CHUNK_BYTES ? (size_t)(to - from) : CHUNK_BYTES, (off_t)from);
    if (got <= 0) {
      from += 4096;
      continue;
    }
    const char *end = chunk + got;
    for (const char *at = chunk; (at = memmem(at, (size_t)(end - at), needle, length)) != NULL; at++) found++;
    from += (size_t)got == CHUNK_BYTES ? (uint64_t)got - length : (uint64_t)got;
  }
  return found;
}

static unsigned search(int memory, int maps, const char *needle) {
  char line[4096];
  unsigned found = 0;
  FILE *list = fdopen(dup(maps), "r");
  if (list == NULL) return 0;
  rewind(list);
  while (fgets(line, sizeof line, list) != NULL) {
    uint64_t from, to;
    char permissions[5];
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, permissions) != 3 || permissions[0] != 'r') continue;
    if (to >= (uint64_t)1 << 63) continue; /* [vsyscall] */
    found += count_in(memory, from, to, needle, strlen(needle));
  }
  fclose(list);
  return found;
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  int memory = -1, maps = -1;
  for (int tries = 0; memory < 0 && tries < MAX_TRIES; tries++) {
    if (!runs(arguments[1], arguments[2])) continue;
    memory = open_of(arguments[1], "mem");
    maps = open_of(arguments[1], "maps");
    if (memory < 0 || maps < 0) break;
  }
  puts(memory < 0 || maps < 0 ? "too late" : "in time");
  fflush(stdout);

  if (memory < 0 || maps < 0) return 0;

  char needle[16384];
  while (fgets(needle, sizeof needle, stdin) != NULL) {
    needle[strcspn(needle, "\n")] = '\0';
    printf("%u\n", search(memory, maps, needle));
    fflush(stdout);
  }
  return 0;
}
