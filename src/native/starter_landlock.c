/*
 * Landlock restricts which files the daemon may change, what it may execute, and which TCP ports it may connect to. It
 * covers the calling thread and the threads that this one creates later, so it must come before node.
 *
 * It is optional. Many kernels lack it (it needs Linux 5.13 and must be enabled at boot), and older container engines
 * refuse it. Stage two forbids most of the same: what stays is every port, with a log writing to any file, with a server-info
 * file removing any, and reading what /proc has of other processes. So the daemon says that Landlock is missing, and starts.
 */
#include "starter.h"

#include "syscall_numbers.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The part of <linux/landlock.h> that we need; old kernel headers lack it. */
struct ruleset {
  uint64_t files;
  uint64_t net;    /* LANDLOCK_WITH_PORTS */
  uint64_t scoped; /* version 6 */
};

struct __attribute__((packed)) path_rule {
  uint64_t allowed;
  int32_t parent;
};

struct port_rule {
  uint64_t allowed;
  uint64_t port;
};

enum {
  RULESET_VERSION = 1 << 0,
  PATH_RULE = 1,
  PORT_RULE = 2,

  EXECUTE = 1 << 0,
  WRITE_FILE = 1 << 1,
  REMOVE_FOLDER = 1 << 4,
  REMOVE_FILE = 1 << 5,
  MAKE_FOLDER = 1 << 7,
  MAKE_FILE = 1 << 8,
  MAKE_OTHERS = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12, /* devices, sockets, FIFOs, links */
  MOVE = 1 << 13,                                              /* version 2 */
  TRUNCATE = 1 << 14,                                          /* version 3 */
  USE_DEVICE = 1 << 15,                                        /* version 5: ioctl(2) */

  CONNECT_TCP = 1 << 1,

  ABSTRACT_SOCKETS = 1 << 0,
  SIGNALS = 1 << 1,

  DNS_PORT = 53,
  LANDLOCK_WITH_PORTS = 4,
};

static bool add_open(int ruleset, int file, uint64_t allowed) {
  struct path_rule rule = {.allowed = allowed, .parent = file};
  return syscall(NR_landlock_add_rule, ruleset, PATH_RULE, &rule, 0) == 0;
}

static bool add_path(int ruleset, const char *path, uint64_t allowed) {
  int file = open(path, O_PATH | O_CLOEXEC); /* exec closes it, like the ruleset */
  return file >= 0 && add_open(ruleset, file, allowed);
}

static bool add_port(int ruleset, uint16_t port) {
  struct port_rule rule = {.allowed = CONNECT_TCP, .port = port};
  return syscall(NR_landlock_add_rule, ruleset, PORT_RULE, &rule, 0) == 0;
}

/* The dynamic linker that a program names, because the kernel executes that too; false for a static program. */
static bool read_interpreter(const char *program, char interpreter[PATH_MAX]) {
  Elf64_Ehdr head;
  Elf64_Phdr segment;
  int file = open(program, O_RDONLY | O_CLOEXEC);
  if (file < 0 || pread(file, &head, sizeof head, 0) != sizeof head || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0) return false;
  for (int i = 0; i < head.e_phnum; i++) {
    off_t offset = (off_t)(head.e_phoff + (uint64_t)i * head.e_phentsize);
    if (pread(file, &segment, sizeof segment, offset) != sizeof segment) return false;
    if (segment.p_type != PT_INTERP || segment.p_filesz == 0 || segment.p_filesz > PATH_MAX) continue;
    return pread(file, interpreter, segment.p_filesz, (off_t)segment.p_offset) == (ssize_t)segment.p_filesz &&
           interpreter[segment.p_filesz - 1] == '\0';
  }
  return false;
}

static uint64_t changes(int version) {
  return WRITE_FILE | REMOVE_FOLDER | REMOVE_FILE | MAKE_FOLDER | MAKE_FILE | MAKE_OTHERS | (version >= 2 ? MOVE : 0) |
         (version >= 3 ? TRUNCATE : 0) | (version >= 5 ? USE_DEVICE : 0);
}

static bool add_files(int ruleset, int version, const char *program, const struct needs *needs) {
  char interpreter[PATH_MAX];
  if (!add_path(ruleset, program, EXECUTE) || !add_path(ruleset, "/dev/null", WRITE_FILE)) return false;
  if (read_interpreter(program, interpreter) && !add_path(ruleset, interpreter, EXECUTE)) return false;

  /* Node reopens terminals, and the daemon its stderr. Pipes and sockets need no rule; adding one fails with EBADFD. */
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++) {
    char path[32];
    struct stat stats;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    if (fstat(descriptor, &stats) != 0 || !(S_ISCHR(stats.st_mode) || (descriptor == STDERR_FILENO && !S_ISDIR(stats.st_mode)))) continue;
    add_path(ruleset, path, changes(version) & (WRITE_FILE | USE_DEVICE)); /* where it fails, there was nothing to allow */
  }
  uint64_t making = WRITE_FILE | MAKE_FILE | REMOVE_FILE | (changes(version) & TRUNCATE);
  for (size_t i = 0; i < PLACES; i++) {
    if (needs->places[i].file != NULL && !add_open(ruleset, needs->places[i].folder, making)) return false;
  }
  return true;
}

static bool add_ports(int ruleset, const struct needs *needs) {
  for (size_t i = 0; i < needs->port_count; i++) {
    if (!add_port(ruleset, needs->ports[i])) return false;
  }
  return add_port(ruleset, DNS_PORT);
}

static bool restrict_by(int version, const char *program, const struct needs *needs) {
  if (version < 0) return false;
  bool ports = version >= LANDLOCK_WITH_PORTS && needs->ports_are_known;
  struct ruleset wanted = {
    .files = EXECUTE | changes(version),
    .net = ports ? CONNECT_TCP : 0,
    .scoped = version >= 6 ? ABSTRACT_SOCKETS | SIGNALS : 0,
  };
  /* An older kernel accepts this longer structure because the fields that it does not know are zero. */
  int ruleset = (int)syscall(NR_landlock_create_ruleset, &wanted, sizeof wanted, 0);
  return ruleset >= 0 && add_files(ruleset, version, program, needs) && (!ports || add_ports(ruleset, needs)) &&
         syscall(NR_landlock_restrict_self, ruleset, 0) == 0;
}

/* The daemon puts into words why it is missing, or that its version is too old. */
void restrict_files_and_ports(const char *program, const struct needs *needs) {
  int version = (int)syscall(NR_landlock_create_ruleset, NULL, 0, RULESET_VERSION);
  bool restricted = restrict_by(version, program, needs);
  if (restricted && version >= LANDLOCK_WITH_PORTS) return;
  char text[16];
  snprintf(text, sizeof text, "%d", version);
  tell("RESPONSES_API_PROXY_LANDLOCK", restricted ? text : strerror(errno));
}
