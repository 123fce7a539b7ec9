/* How much of what we wrote has not arrived yet, and the reset that would discard it. */
#include "native.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct failure unacknowledged_bytes(int socket, int *bytes) {
  return ioctl(socket, SIOCOUTQ, bytes) == 0 ? (struct failure){0} : failed("ioctl");
}

struct failure reset_on_close(int socket) {
  struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  return setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0 ? (struct failure){0} : failed("setsockopt");
}
