/*
 * For LD_PRELOAD: as soon as it is inside a program called node, it writes the file that PRELOADED names. Others (the
 * shell and env of the launcher, which no program can protect from its own environment) it leaves alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void arrive(void) {
  const char *file = getenv("PRELOADED");
  const char *program = program_invocation_short_name;
  if (file == NULL || strcmp(program, "node") != 0) return;
  int fd = open(file, O_WRONLY | O_CREAT, 0644);
  if (fd >= 0) close(fd);
}
