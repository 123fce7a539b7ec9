/*
 * far-network MILLISECONDS ADDRESS COMMAND...: makes the network ADDRESS (10.99.0.1/24, say) on a new device, and runs the
 * command. What is sent to another address of it comes back after that time as from there: source and destination change
 * places, which no checksum notices. So a server on ADDRESS is reached at any other, as far away as that, twice.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { QUEUE = 1024, LONGEST = 2048, SOURCE = 12, DESTINATION = 16, LENGTH = 4 };

static struct packet {
  long due_ms;
  ssize_t length;
  unsigned char bytes[LONGEST];
} queue[QUEUE];

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

static void turn(unsigned char *bytes) {
  unsigned char source[LENGTH];
  memcpy(source, bytes + SOURCE, LENGTH);
  memcpy(bytes + SOURCE, bytes + DESTINATION, LENGTH);
  memcpy(bytes + DESTINATION, source, LENGTH);
}

static void reflect(int device, long delay_ms) {
  for (size_t first = 0, end = 0;;) {
    long wait = first == end ? -1 : queue[first % QUEUE].due_ms - now_ms();
    struct pollfd ready = {.fd = device, .events = POLLIN};
    if (first != end && wait <= 0) {
      struct packet *packet = &queue[first++ % QUEUE];
      if (write(device, packet->bytes, (size_t)packet->length) < 0) warn("write");
    } else if (poll(&ready, 1, (int)wait) > 0) {
      struct packet *packet = &queue[end % QUEUE];
      packet->length = read(device, packet->bytes, LONGEST);
      packet->due_ms = now_ms() + delay_ms;
      if (packet->length < 20 || packet->bytes[0] >> 4 != 4 || end - first == QUEUE) continue; /* IPv4 alone */
      turn(packet->bytes);
      end++;
    }
  }
}

int main(int count, char **arguments) {
  if (count < 4) errx(2, "usage: far-network MILLISECONDS ADDRESS COMMAND...");
  int device = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  strcpy(request.ifr_name, "far0");
  if (device < 0 || ioctl(device, TUNSETIFF, &request) != 0) err(1, "/dev/net/tun");
  char command[256];
  snprintf(command, sizeof command, "ip address add %s dev far0 && ip link set far0 up", arguments[2]);
  if (system(command) != 0) errx(1, "%s failed", command);
  pid_t parent = getpid();
  if (fork() == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) reflect(device, atol(arguments[1]));
    return 0;
  }
  execvp(arguments[3], arguments + 3);
  err(1, "%s", arguments[3]);
}
