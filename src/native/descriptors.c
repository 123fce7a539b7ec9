/* What the kernel can tell of a descriptor and do with it, and node has no function for. */
#include "native.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool has_event(int socket, int events) {
  struct pollfd seen = {.fd = socket, .events = POLLRDHUP};
  return poll(&seen, 1, 0) == 1 && (seen.revents & events) != 0;
}

/* Node would only notice while reading, and it does not read from a client that waits. */
bool has_hung_up(int socket) {
  return has_event(socket, POLLRDHUP | POLLHUP | POLLERR);
}

/* A FIN alone leaves our side open. */
bool was_reset(int socket) {
  return has_event(socket, POLLHUP | POLLERR);
}

struct failure unacknowledged_bytes(int socket, int *bytes) {
  return ioctl(socket, SIOCOUTQ, bytes) == 0 ? (struct failure){0} : failed("ioctl");
}

struct failure reset_on_close(int socket) {
  struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  return setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0 ? (struct failure){0} : failed("setsockopt");
}

/* The kernel releases the lock however the process ends. */
struct failure lock_file(int file, bool *locked) {
  *locked = flock(file, LOCK_EX | LOCK_NB) == 0;
  return *locked || errno == EWOULDBLOCK ? (struct failure){0} : failed("flock");
}

/* Node offers only unlink(2), which resolves a whole path again. */
struct failure unlink_at(int folder, const char *name) {
  /* A bare name: with a slash it could lead out of the folder. */
  if (strchr(name, '/') != NULL) {
    errno = EINVAL;
    return failed("unlinkat");
  }
  return unlinkat(folder, name, 0) == 0 ? (struct failure){0} : failed("unlinkat");
}
