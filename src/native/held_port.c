/*
 * Keeps a port of [::1] from everybody. Many clients read `localhost` as ::1 first, and whoever listened there would get
 * what they send.
 */
#include "native.h"

#include <sys/socket.h>
#include <unistd.h>

/*
 * Bound, but not listening: a client is refused at once, and tries 127.0.0.1. Another socket can share the port only if
 * both have SO_REUSEADDR, or both have SO_REUSEPORT, so this one has neither. libuv always sets the first.
 */
struct failure hold_port(uint16_t port, int *descriptor) {
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  *descriptor = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (*descriptor < 0) return failed("socket");
  if (bind(*descriptor, (struct sockaddr *)&address, sizeof address) == 0) return (struct failure){0};
  struct failure failure = failed("bind");
  close(*descriptor);
  return failure;
}
