/* What the kernel can tell of a descriptor and do with it, and node has no function for. */
#include "native.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Node would only notice while reading, and it does not read from a client that waits. A signal interrupts poll(2) even where it does not wait. */
int poll_ends(int socket) {
  struct pollfd seen = {.fd = socket, .events = POLLRDHUP};
  int found;
  do found = poll(&seen, 1, 0);
  while (found < 0 && errno == EINTR);
  return found < 0 ? -1 : seen.revents;
}

int unacknowledged_bytes(int socket) {
  int bytes;
  return ioctl(socket, SIOCOUTQ, &bytes) == 0 ? bytes : -1;
}

int reset_on_close(int socket) {
  struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  return setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/* The kernel releases the lock however the process ends. */
int lock_file(int file) {
  if (flock(file, LOCK_EX | LOCK_NB) == 0) return 1;
  return errno == EWOULDBLOCK ? 0 : -1;
}

/*
 * Many clients read `localhost` as ::1 first, and whoever listened there would get what they send. Bound, but not listening:
 * a client is refused at once, and tries 127.0.0.1. Another socket can share the port only if both have SO_REUSEADDR, or both
 * have SO_REUSEPORT, so this one has neither. libuv always sets the first.
 */
int hold_port(int port) {
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  int descriptor = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0) return descriptor;
  int error = errno;
  close(descriptor);
  errno = error;
  return -1;
}
