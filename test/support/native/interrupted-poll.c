/* For LD_PRELOAD: the first poll(2) of one descriptor that does not wait fails as if a signal had arrived during it. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int poll(struct pollfd *asked, nfds_t count, int timeout) {
  static bool was_interrupted;
  if (count == 1 && timeout == 0 && !was_interrupted) {
    was_interrupted = true;
    errno = EINTR;
    return -1;
  }
  struct timespec limit = {timeout / 1000, timeout % 1000 * 1000000L};
  return (int)syscall(SYS_ppoll, asked, count, timeout < 0 ? NULL : &limit, NULL, 0);
}
