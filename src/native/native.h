/*
 * What V8 and Node cannot do: memory that no other process reads, a process that others cannot open, a sandbox, and the
 * user at the other end of a socket. Only addon.c knows about JavaScript.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <netinet/in.h>

/* failure.c: the system call that failed, and its errno; all zero on success. */
struct failure {
  const char *syscall;
  int error;
};

/* Captures errno, so call it right after the failed call. */
struct failure failed(const char *syscall);

/* locked_memory.c: the area belongs to the caller until the process ends; it is never unmapped. */
enum protection { MEMFD_SECRET, MLOCK, UNLOCKED };

struct area {
  void *data;
  enum protection protection;
};

/* What failed on the way, also where a weaker protection worked in the end. */
struct lock_failures {
  struct failure memfd_secret;
  struct failure mlock;
};

bool allocate_locked(size_t bytes, bool waive_locking, struct area *area, struct lock_failures *failures);

/* hardening.c: on success the setting holds, and has been read back from the kernel. */
struct failure forbid_tracing(void);
struct failure forbid_core_dumps(void);
struct failure forbid_new_privileges(void);

/* Whether the starter's filter is in place, see starter_probe.h. */
bool is_started_by_starter(void);

/* serving_filter.c: `opens_logs` keeps opening files for writing allowed. */
struct failure forbid_start_calls(bool opens_logs);

/* peer.c: the two ends of a connection that this process has accepted. */
struct connection {
  struct sockaddr_in local;
  struct sockaddr_in remote;
};

struct owner {
  bool known;
  uint32_t uid;
};

struct failure find_peer(const struct connection *connection, struct owner *owner);

/* descriptors.c: whether the peer has closed the connection, also while unread bytes are left. */
bool has_hung_up(int socket);

/* Whether it ended with a reset; for a socket that this process has not closed itself. */
bool was_reset(int socket);

/* Bytes that the other end of a TCP connection has not acknowledged (tcp(7), SIOCOUTQ). */
struct failure unacknowledged_bytes(int socket, int *bytes);

/* Makes close(2) discard the send queue and send a reset. */
struct failure reset_on_close(int socket);

/* `locked` is false if another process holds the lock. */
struct failure lock_file(int file, bool *locked);

/* Removes `name` from the open `folder`, which may be an O_PATH descriptor. */
struct failure unlink_at(int folder, const char *name);

/* inherited_socket.c: numbers as in socket(2); address and port are set for AF_INET only. */
struct socket_facts {
  int family;
  int type;
  int protocol;
  int listening;
  char address[INET_ADDRSTRLEN];
  uint16_t port;
};

struct failure inspect_socket(int fd, struct socket_facts *facts);

/* held_port.c: binds a socket to [::1]:port, without listening. It is the caller's to close. */
struct failure hold_port(uint16_t port, int *descriptor);

/* account.c: false if there is no such account. */
struct account {
  char name[256];
  uint32_t uid;
  uint32_t gid;
};

bool find_account(const char *name_or_uid, struct account *account);

#endif
