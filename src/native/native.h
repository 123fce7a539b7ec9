/*
 * What V8 and Node cannot do: memory that no other process reads, a process that others cannot open, a sandbox, and the
 * user at the other end of a socket. Only addon.c knows about JavaScript. What fails sets errno.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* locked_memory.c: the area belongs to the caller until the process ends; it is never unmapped. */
struct area {
  void *data;
  const char *kind; /* "memfd_secret", "mlock" or "unlocked" */
  /* What failed on the way, also where a weaker protection worked in the end. */
  int secret_error, lock_error;
};

bool allocate_locked(size_t bytes, bool waive_locking, struct area *area);

/* hardening.c: NULL if all of it holds, and has been read back from the kernel; else what could not be forbidden. */
const char *harden(void);

/* Whether the starter's filter is in place, see STARTER_PROBE. */
bool is_started_by_starter(void);

/* serving_filter.c: what stays allowed is opening files for writing, and removing files. */
bool forbid_start_calls(bool opens_logs, bool removes_file);

/* peer.c: 1 and the owner of the other end of a loopback connection, 0 if no process owns that, or -1. */
int find_peer(int socket, uint32_t *uid);

/* descriptors.c: all of these give -1 if they fail. What poll(2) says of a connected socket: POLLRDHUP, POLLHUP, POLLERR. */
int poll_ends(int socket);

/* Bytes that the other end of a TCP connection has not acknowledged (tcp(7), SIOCOUTQ). */
int unacknowledged_bytes(int socket);

/* Makes close(2) discard the send queue and send a reset. */
int reset_on_close(int socket);

/* Locks a file until it is closed. 0 if another process holds the lock. */
int lock_file(int file);

/* Binds a socket to [::1]:port, without listening. It is the caller's to close. */
int hold_port(int port);

/* account.c: false if there is no such account. */
struct account {
  char name[256];
  uint32_t uid;
  uint32_t gid;
};

bool find_account(const char *name_or_uid, struct account *account);

#endif
