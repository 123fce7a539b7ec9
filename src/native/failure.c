/* The system call that failed, and why. */
#include "native.h"

#include <errno.h>

struct failure failed(const char *syscall) {
  return (struct failure){.syscall = syscall, .error = errno};
}
