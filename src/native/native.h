/*
 * What V8 and Node cannot do for the key: memory that nobody else reads, a process that nobody else opens, and the
 * name of the user at the other end of a socket. Nothing in here knows of JavaScript except addon.c.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <netinet/in.h>

/* failure.c: which system call failed and with what errno; all zero where nothing failed. */
struct failure {
  const char *syscall;
  int error;
};

/* Captures errno, so call it at once. */
struct failure failed(const char *syscall);

/* "ENOMEM" for ENOMEM. */
const char *errno_name(int error);

/* locked_memory.c: the area belongs to the caller until the process ends; it is never unmapped. */
enum protection { MEMFD_SECRET, MLOCK, UNLOCKED };

struct area {
  void *data;
  enum protection protection;
};

/* Both are filled in with what was tried in vain, also when a weaker protection was found in the end. */
struct lock_failures {
  struct failure memfd_secret;
  struct failure mlock;
};

bool allocate_locked(size_t bytes, bool waive_locking, struct area *area, struct lock_failures *failures);

/* hardening.c: each holds for the whole process and has been read back from the kernel when it succeeds. */
struct failure forbid_tracing(void);
struct failure forbid_core_dumps(void);
struct failure forbid_new_privileges(void);

/* Whether the starter's filter is in place, see starter_probe.h. */
bool is_started_by_starter(void);

/* serving_filter.c: `opens_logs` leaves opening files for writing allowed. */
struct failure close_start_calls(bool opens_logs);

/* peer.c: both ends are those of a connection that this process has accepted. */
struct connection {
  struct sockaddr_in local;
  struct sockaddr_in remote;
};

struct owner {
  bool known;
  uint32_t uid;
};

struct failure find_peer(const struct connection *connection, struct owner *owner);

/* hangup.c: also true where unread bytes are left. */
bool has_hung_up(int socket);

/* send_queue.c: bytes that the other end of a TCP connection has not acknowledged (tcp(7), SIOCOUTQ). */
struct failure unacknowledged_bytes(int socket, int *bytes);

/* send_queue.c: close(2) discards what is in the send queue and sends a reset. */
struct failure reset_on_close(int socket);

/* inherited_socket.c: the numbers of socket(2); address and port are set for AF_INET alone. */
struct socket_facts {
  int family;
  int type;
  int protocol;
  int listening;
  char address[INET_ADDRSTRLEN];
  uint16_t port;
};

struct failure inspect_socket(int fd, struct socket_facts *facts);

/* file_lock.c: `locked` is false where another process has it. */
struct failure lock_file(int file, bool *locked);

/* removal.c: `name` is the one of a file in the open `folder`, which may be an O_PATH descriptor. */
struct failure unlink_at(int folder, const char *name);

/* account.c: false where there is no such account. */
struct account {
  char name[256];
  uint32_t uid;
  uint32_t gid;
};

bool find_account(const char *name_or_uid, struct account *account);

#endif
