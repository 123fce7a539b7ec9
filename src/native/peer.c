/*
 * Which user owns the other end of a loopback connection? The kernel tells any process that asks over NETLINK_SOCK_DIAG
 * (sock_diag(7)). One netlink socket serves all questions until the process ends.
 */
#include "native.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* The kernel answers before send(2) returns; the limit only keeps an emulated kernel from hanging the daemon. */
enum { ANSWER_TIMEOUT_SECONDS = 1 };

/* lo, in every network namespace (LOOPBACK_IFINDEX, include/net/flow.h). */
enum { LOOPBACK_INTERFACE = 1 };

static int diag = -1;
static uint32_t diag_port;
static uint32_t sequence;

struct question {
  struct nlmsghdr header;
  struct inet_diag_req_v2 request;
};

/* An answer has some 200 bytes. The attributes after inet_diag_msg are not read. */
union answer {
  struct nlmsghdr header;
  char bytes[1024];
};

/* 1 and the kernel's message, 0 if there is no such socket, or -1. */
static int ask(const struct sockaddr_in *source, const struct sockaddr_in *destination, struct inet_diag_msg *message) {
  struct question question = {
    .header = {
      .nlmsg_len = sizeof question,
      .nlmsg_type = SOCK_DIAG_BY_FAMILY,
      .nlmsg_flags = NLM_F_REQUEST,
      .nlmsg_seq = ++sequence,
    },
    .request = {
      /* Also finds IPv6 sockets that speak IPv4 (::ffff:127.0.0.1): the kernel hashes them by their IPv4 addresses. */
      .sdiag_family = AF_INET,
      .sdiag_protocol = IPPROTO_TCP,
      .id = {
        .idiag_sport = source->sin_port,
        .idiag_dport = destination->sin_port,
        .idiag_src = {source->sin_addr.s_addr},
        .idiag_dst = {destination->sin_addr.s_addr},
        /* As for a packet: matches sockets bound to lo and those bound to no device. */
        .idiag_if = LOOPBACK_INTERFACE,
        .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE},
      },
    },
  };
  if (send(diag, &question, sizeof question, 0) < 0) return -1;

  union answer answer;
  ssize_t length;
  do { /* skips late answers to earlier questions */
    length = recv(diag, &answer, sizeof answer, 0);
    if (length < 0 && errno != EINTR) return -1;
  } while (length < 0 || !NLMSG_OK(&answer.header, (size_t)length) || answer.header.nlmsg_seq != sequence || answer.header.nlmsg_pid != diag_port);

  const struct nlmsgerr *error = NLMSG_DATA(&answer.header);
  errno = EBADMSG;
  if (answer.header.nlmsg_type == SOCK_DIAG_BY_FAMILY && answer.header.nlmsg_len >= NLMSG_LENGTH(sizeof *message)) {
    memcpy(message, NLMSG_DATA(&answer.header), sizeof *message);
    return 1;
  }
  if (answer.header.nlmsg_type != NLMSG_ERROR || answer.header.nlmsg_len < NLMSG_LENGTH(sizeof *error)) return -1;
  errno = -error->error;
  return errno == ENOENT ? 0 : -1;
}

/*
 * The kernel says ENOENT both for "no such socket" and for "no such module". To rule out the second, it has to find a
 * socket that certainly exists: one of ours, listening.
 */
static bool it_answers(void) {
  struct sockaddr_in no_peer = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(1)};
  struct sockaddr_in listener = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  struct inet_diag_msg message;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool found = fd >= 0 && bind(fd, (struct sockaddr *)&listener, sizeof listener) == 0 && listen(fd, 1) == 0 &&
               getsockname(fd, (struct sockaddr *)&listener, &(socklen_t){sizeof listener}) == 0 &&
               ask(&listener, &no_peer, &message) == 1;
  int error = errno;
  close(fd);
  errno = error;
  return found;
}

static bool open_diag(void) {
  diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (diag < 0) return false;

  struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_SECONDS};
  struct sockaddr_nl address = {.nl_family = AF_NETLINK}; /* port 0 is the kernel; once connected, no other sender is heard */
  if (setsockopt(diag, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
      connect(diag, (struct sockaddr *)&address, sizeof address) == 0 &&
      getsockname(diag, (struct sockaddr *)&address, &(socklen_t){sizeof address}) == 0) {
    diag_port = address.nl_pid;
    if (it_answers()) return true;
  }
  int error = errno;
  close(diag);
  diag = -1;
  errno = error;
  return false;
}

/* Plain IPv4, or as an IPv6 socket writes it: ::ffff:127.0.0.1. */
static bool is_address(const struct inet_diag_msg *message, const __be32 found[4], in_addr_t expected) {
  if (message->idiag_family == AF_INET) return found[0] == expected;
  return found[0] == 0 && found[1] == 0 && found[2] == htonl(0xffff) && found[3] == expected;
}

/*
 * For a connection that is gone the kernel offers the listener on that port, and for one that is being opened, a socket
 * that may never become our peer. Only these states follow a complete handshake.
 */
static bool is_connected(const struct inet_diag_msg *message) {
  const unsigned connected = 1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSE_WAIT |
                             1 << TCP_CLOSING | 1 << TCP_LAST_ACK;
  return message->idiag_state < 32 && (connected >> message->idiag_state & 1) != 0;
}

/* The owner is unknown once the peer has closed its socket: an orphan has inode 0, and a uid 0 that does not mean root. */
int find_peer(int socket, uint32_t *uid) {
  struct sockaddr_in local = {0}, remote = {0};
  struct inet_diag_msg message;
  if (diag < 0 && !open_diag()) return -1;
  if (getsockname(socket, (struct sockaddr *)&local, &(socklen_t){sizeof local}) != 0 || local.sin_family != AF_INET) return 0;
  if (getpeername(socket, (struct sockaddr *)&remote, &(socklen_t){sizeof remote}) != 0) return 0; /* it is gone */
  int found = ask(&remote, &local, &message);
  if (found != 1) return found;
  *uid = message.idiag_uid;
  return is_connected(&message) && message.idiag_inode != 0 &&
         message.id.idiag_sport == remote.sin_port && message.id.idiag_dport == local.sin_port &&
         is_address(&message, message.id.idiag_src, remote.sin_addr.s_addr) &&
         is_address(&message, message.id.idiag_dst, local.sin_addr.s_addr);
}
