/* What the parts of the starter know of each other. It is a program of its own: nothing in here is in the addon. */
#ifndef STARTER_H
#define STARTER_H

#include "native.h"

/* starter_flags.c: what the daemon's command line says about files and connections. */
enum { MAX_WRITABLE_FILES = 16, MAX_PORTS = 16 };

struct needs {
  /* Files that the daemon makes, writes or removes. */
  const char *files[MAX_WRITABLE_FILES];
  size_t file_count;
  /* TCP ports it connects to. */
  uint16_t ports[MAX_PORTS];
  size_t port_count;
  /* False where a URL leaves room for doubt; then any port will have to do. */
  bool ports_are_known;
  bool no_sandbox;
};

struct needs read_needs(char *const arguments[]);

/* starter_filter.c: the system calls that the daemon never makes. */
struct failure forbid_foreign_calls(void);

/* starter_landlock.c: `version` is the kernel's, where it has Landlock. */
enum { LANDLOCK_WITH_PORTS = 4 };

struct failure restrict_files_and_ports(const char *program, const struct needs *needs, int *version);

#endif
