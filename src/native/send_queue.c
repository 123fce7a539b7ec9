/* What of our writes has not arrived yet? A reset would discard it. */
#include "native.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

struct failure unacknowledged_bytes(int socket, int *bytes) {
  return ioctl(socket, SIOCOUTQ, bytes) == 0 ? (struct failure){0} : failed("ioctl");
}
