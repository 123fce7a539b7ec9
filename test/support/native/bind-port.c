/*
 * bind-port ADDRESS PORT
 *
 * Tries to listen on an IPv6 address and port with each combination of the options that let sockets share a port. Prints
 * `yes` or the error for each, and ends each try before the next.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments) {
  struct sockaddr_in6 address = {.sin6_family = AF_INET6};
  if (count != 3 || inet_pton(AF_INET6, arguments[1], &address.sin6_addr) != 1) return 2;
  address.sin6_port = htons((unsigned short)atoi(arguments[2]));
  for (int options = 0; options < 8; options++) {
    int reuse_address = options & 1, reuse_port = options >> 1 & 1, ipv6_only = options >> 2 & 1;
    int listener = socket(AF_INET6, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &reuse_address, sizeof reuse_address);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &reuse_port, sizeof reuse_port);
    setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &ipv6_only, sizeof ipv6_only);
    int failed = bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0;
    puts(failed ? strerror(errno) : "yes");
    close(listener);
  }
  return 0;
}
