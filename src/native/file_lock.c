/* An exclusive lock on an open file. The kernel releases it however the process ends. */
#include "native.h"

#include <errno.h>
#include <sys/file.h>

struct failure lock_file(int file, bool *locked) {
  *locked = flock(file, LOCK_EX | LOCK_NB) == 0;
  return *locked || errno == EWOULDBLOCK ? (struct failure){0} : failed("flock");
}
