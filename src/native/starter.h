/* The parts of the starter. It is a program of its own; none of this is in the addon. */
#ifndef STARTER_H
#define STARTER_H

#include "native.h"

/* starter_flags.c: the files and ports that the daemon will need, read from its command line. */
enum { MAX_WRITABLE_FILES = 16, MAX_PORTS = 16 };

struct needs {
  /* Files that the daemon creates, writes or removes. */
  const char *files[MAX_WRITABLE_FILES];
  size_t file_count;
  /* TCP ports that it connects to. */
  uint16_t ports[MAX_PORTS];
  size_t port_count;
  /* False if a URL is unclear; then ports are not restricted. */
  bool ports_are_known;
  bool no_sandbox;
};

struct needs read_needs(char *const arguments[]);

/* starter_filter.c */
struct failure forbid_foreign_calls(void);

/* starter_landlock.c: `version` is the kernel's version of Landlock, negative if it has none. */
enum { LANDLOCK_WITH_PORTS = 4 };

struct failure restrict_files_and_ports(const char *program, const struct needs *needs, int *version);

#endif
