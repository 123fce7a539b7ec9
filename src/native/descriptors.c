/* What the kernel can tell of a descriptor and do with it, and node has no function for. */
#include "native.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

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

bool inspect_socket(int socket, struct socket_facts *facts) {
  *facts = (struct socket_facts){0};
  const struct { int option; int *value; } options[] = {
    {SO_DOMAIN, &facts->family}, {SO_TYPE, &facts->type}, {SO_PROTOCOL, &facts->protocol}, {SO_ACCEPTCONN, &facts->listening},
  };
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    if (getsockopt(socket, SOL_SOCKET, options[i].option, options[i].value, &(socklen_t){sizeof(int)}) != 0) return false;
  }
  if (facts->family != AF_INET) return true;

  struct sockaddr_in bound = {0};
  if (getsockname(socket, (struct sockaddr *)&bound, &(socklen_t){sizeof bound}) != 0) return false;
  facts->port = ntohs(bound.sin_port);
  return inet_ntop(AF_INET, &bound.sin_addr, facts->address, sizeof facts->address) != NULL;
}
