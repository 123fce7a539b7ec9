/* Has the peer hung up? Node would only notice while reading, and it does not read from a client that waits. */
#include "native.h"

#include <poll.h>

bool has_hung_up(int socket) {
  struct pollfd end = {.fd = socket, .events = POLLRDHUP};
  return poll(&end, 1, 0) == 1 && (end.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}
