/*
 * Landlock restricts which files the daemon may change, what it may execute, and which TCP ports it may connect to. It
 * covers the calling thread and the threads that this one creates later, so it must come before node.
 *
 * It is optional. Many kernels lack it (it needs Linux 5.13 and must be enabled at boot), and older container engines
 * refuse it. Without a log, stage two forbids most of the same: what stays is removing a file, and every port. So the daemon
 * says that Landlock is missing, and starts.
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
};

static struct failure add_path(int ruleset, const char *path, int kind, uint64_t allowed) {
  struct path_rule rule = {.allowed = allowed, .parent = open(path, O_PATH | O_CLOEXEC | kind)};
  if (rule.parent < 0) return failed("open");
  struct failure failure = {0};
  if (syscall(NR_landlock_add_rule, ruleset, PATH_RULE, &rule, 0) != 0) failure = failed("landlock_add_rule");
  close(rule.parent);
  return failure;
}

static struct failure add_port(int ruleset, uint16_t port) {
  struct port_rule rule = {.allowed = CONNECT_TCP, .port = port};
  return syscall(NR_landlock_add_rule, ruleset, PORT_RULE, &rule, 0) == 0 ? (struct failure){0} : failed("landlock_add_rule");
}

/* Cuts off the last name of a path and the slashes before it. */
static void cut_name(char *path) {
  char *slash = strrchr(path, '/');
  if (slash == NULL) {
    strcpy(path, ".");
    return;
  }
  while (slash > path && slash[-1] == '/') slash--;
  slash[slash == path] = '\0';
}

/*
 * Allows changes in the folder of a file, or, if the daemon still has to create that, in the nearest one that exists. A
 * folder that cannot be opened is skipped: the daemon cannot open it either, and reports that.
 */
static struct failure add_folder_of(int ruleset, const char *file, uint64_t allowed) {
  char folder[PATH_MAX];
  if (strlen(file) >= sizeof folder) return (struct failure){0};
  strcpy(folder, file);
  struct failure failure;
  do {
    cut_name(folder);
    failure = add_path(ruleset, folder, O_DIRECTORY, allowed);
  } while (failure.error == ENOENT && strcmp(folder, ".") != 0 && strcmp(folder, "/") != 0);
  return strcmp(failure.syscall == NULL ? "" : failure.syscall, "landlock_add_rule") == 0 ? failure : (struct failure){0};
}

/* The dynamic linker that a program names, because the kernel executes that too; false for a static program. */
static bool read_interpreter(const char *program, char interpreter[PATH_MAX]) {
  Elf64_Ehdr head;
  Elf64_Phdr segment;
  bool found = false;
  int file = open(program, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  if (pread(file, &head, sizeof head, 0) == sizeof head && memcmp(head.e_ident, ELFMAG, SELFMAG) == 0) {
    for (int i = 0; i < head.e_phnum && !found; i++) {
      off_t offset = (off_t)(head.e_phoff + (uint64_t)i * head.e_phentsize);
      if (pread(file, &segment, sizeof segment, offset) != sizeof segment) break;
      if (segment.p_type != PT_INTERP || segment.p_filesz > PATH_MAX) continue;
      found = pread(file, interpreter, segment.p_filesz, (off_t)segment.p_offset) == (ssize_t)segment.p_filesz &&
              interpreter[segment.p_filesz - 1] == '\0';
    }
  }
  close(file);
  return found;
}

static uint64_t changes(int version) {
  return WRITE_FILE | REMOVE_FOLDER | REMOVE_FILE | MAKE_FOLDER | MAKE_FILE | MAKE_OTHERS | (version >= 2 ? MOVE : 0) |
         (version >= 3 ? TRUNCATE : 0) | (version >= 5 ? USE_DEVICE : 0);
}

static struct failure add_files(int ruleset, int version, const char *program, const struct needs *needs) {
  struct failure failure = add_path(ruleset, program, 0, EXECUTE);
  char interpreter[PATH_MAX];
  if (failure.error == 0 && read_interpreter(program, interpreter)) failure = add_path(ruleset, interpreter, 0, EXECUTE);
  if (failure.error == 0) failure = add_path(ruleset, "/dev/null", 0, WRITE_FILE);

  /* Node reopens terminals, and the daemon its stderr. Pipes and sockets need no rule; adding one fails with EBADFD. */
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO && failure.error == 0; descriptor++) {
    char path[32];
    struct stat stats;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    if (fstat(descriptor, &stats) != 0 || !(S_ISCHR(stats.st_mode) || (descriptor == STDERR_FILENO && !S_ISDIR(stats.st_mode)))) continue;
    add_path(ruleset, path, 0, changes(version) & (WRITE_FILE | USE_DEVICE)); /* where it fails, there was nothing to allow */
  }
  uint64_t making = WRITE_FILE | MAKE_FILE | REMOVE_FILE | MAKE_FOLDER | (changes(version) & TRUNCATE);
  for (size_t i = 0; i < needs->file_count && failure.error == 0; i++) failure = add_folder_of(ruleset, needs->files[i], making);
  return failure;
}

static struct failure add_ports(int ruleset, const struct needs *needs) {
  struct failure failure = add_port(ruleset, DNS_PORT);
  for (size_t i = 0; i < needs->port_count && failure.error == 0; i++) failure = add_port(ruleset, needs->ports[i]);
  return failure;
}

struct failure restrict_files_and_ports(const char *program, const struct needs *needs, int *version) {
  *version = (int)syscall(NR_landlock_create_ruleset, NULL, 0, RULESET_VERSION);
  if (*version < 0) return failed("landlock_create_ruleset");
  bool ports = *version >= LANDLOCK_WITH_PORTS && needs->ports_are_known;
  struct ruleset wanted = {
    .files = EXECUTE | changes(*version),
    .net = ports ? CONNECT_TCP : 0,
    .scoped = *version >= 6 ? ABSTRACT_SOCKETS | SIGNALS : 0,
  };
  /* An older kernel accepts this longer structure because the fields that it does not know are zero. */
  int ruleset = (int)syscall(NR_landlock_create_ruleset, &wanted, sizeof wanted, 0);
  if (ruleset < 0) return failed("landlock_create_ruleset");
  struct failure failure = add_files(ruleset, *version, program, needs);
  if (failure.error == 0 && ports) failure = add_ports(ruleset, needs);
  if (failure.error == 0 && syscall(NR_landlock_restrict_self, ruleset, 0) != 0) failure = failed("landlock_restrict_self");
  close(ruleset);
  return failure;
}
