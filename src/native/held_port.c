/*
 * Keeps a port of [::1] from everybody. Many clients read `localhost` as ::1 first, and whoever listened there would get
 * what they send.
 */
#include "native.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Bound, but not listening: a client is refused at once, and tries 127.0.0.1. Another socket can share the port only if
 * both have SO_REUSEADDR, or both have SO_REUSEPORT, so this one has neither. libuv always sets the first.
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
