/* The parts of the starter. It is a program of its own; none of this is in the addon. */
#ifndef STARTER_H
#define STARTER_H

#include "native.h"

enum { EXIT_FAILED = 1, EXIT_MISUSED = 2, EXIT_UNSAFE = 3 };

/* starter.c: ends the start with a message, and a hint on the next line. */
__attribute__((format(printf, 3, 4))) _Noreturn void fail(int code, const char *hint, const char *format, ...);

/* errno in words, as the daemon has them. */
const char *reason(void);

/* Sets a variable of the daemon's environment. */
void tell(const char *name, const char *value);

/* starter_flags.c: the files and ports that the daemon will need, read from its command line. */
enum { MAX_PORTS = 16, MAX_READS = 8 };

enum { SERVER_INFO, AUDIT_LOG, PLACES };

/* A file that the daemon creates, writes or removes. */
struct place {
  const char *flag;
  const char *file; /* NULL if the flag is not given */
  /* starter_folders.c: its own name, and an open O_PATH descriptor of its folder, which the daemon gets. */
  const char *name;
  int folder;
};

struct needs {
  struct place places[PLACES];
  /* TCP ports that it connects to. */
  uint16_t ports[MAX_PORTS];
  size_t port_count;
  /* False if a URL is unclear; then ports are not restricted. */
  bool ports_are_known;
  /* Files that it reads, without those that everybody may read. */
  const char *reads[MAX_READS];
  size_t read_count;
  bool runs_as, allows_users, issues_token, low_port, no_sandbox;
};

void read_needs(char *const arguments[], struct needs *needs);

/* starter_folders.c: ends the start if a folder cannot be opened. */
void open_folders(struct needs *needs);

/* starter_rights.c: after the folders are open. */
void close_others_at_exec(char *const arguments[]);
void drop_capabilities(const struct needs *needs);

/* starter_filter.c */
bool forbid_foreign_calls(void);

/* starter_landlock.c: where it cannot, it tells the daemon. */
void restrict_files_and_ports(const char *program, const struct needs *needs);

#endif
