/* Facts about a descriptor that another process opened: is it a listening socket, and where? */
#include "native.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

static struct failure get_option(int fd, int option, int *value) {
  socklen_t length = sizeof *value;
  return getsockopt(fd, SOL_SOCKET, option, value, &length) == 0 ? (struct failure){0} : failed("getsockopt");
}

struct failure inspect_socket(int fd, struct socket_facts *facts) {
  *facts = (struct socket_facts){0};
  const struct { int option; int *value; } options[] = {
    {SO_DOMAIN, &facts->family}, {SO_TYPE, &facts->type}, {SO_PROTOCOL, &facts->protocol}, {SO_ACCEPTCONN, &facts->listening},
  };
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    struct failure failure = get_option(fd, options[i].option, options[i].value);
    if (failure.error != 0) return failure;
  }
  if (facts->family != AF_INET) return (struct failure){0};

  struct sockaddr_in bound = {0};
  socklen_t length = sizeof bound;
  if (getsockname(fd, (struct sockaddr *)&bound, &length) != 0) return failed("getsockname");
  if (inet_ntop(AF_INET, &bound.sin_addr, facts->address, sizeof facts->address) == NULL) return failed("inet_ntop");
  facts->port = ntohs(bound.sin_port);
  return (struct failure){0};
}
