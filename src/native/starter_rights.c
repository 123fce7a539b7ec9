/*
 * Takes from the daemon what no flag needs: capabilities, also where it stays root, and descriptors that the caller left open.
 * It has to be done before node starts: capabilities belong to threads, and node has some before any of our code runs.
 */
#include "starter.h"

#include "syscall_numbers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* What is locked for the key, at most. */
enum { KEY_BYTES = 64 * 1024 };

enum { FIRST_INHERITED = 3, WORDS = _LINUX_CAPABILITY_U32S_3, WORD_BITS = 32 };

#define RIGHT(number) (1ULL << (number))

typedef struct __user_cap_data_struct capabilities[WORDS];

static bool get(capabilities held) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  return syscall(SYS_capget, &header, held) == 0;
}

static bool set(const capabilities held) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  return syscall(SYS_capset, &header, held) == 0;
}

/* Without capabilities in effect. A file that is not there needs none; where the kernel is too old to ask (before 5.8), all do. */
static bool may(int folder, const char *path, int mode) {
  return syscall(NR_faccessat2, folder, path, mode, AT_EACCESS) == 0 || errno == ENOENT;
}

/* Root may need these for folders and files of other users. */
static uint64_t needed_for_files(const struct needs *needs) {
  capabilities held, none;
  if (!get(held)) return 0;
  memcpy(none, held, sizeof none);
  for (int word = 0; word < WORDS; word++) none[word].effective = 0;
  if (!set(none)) return 0;
  uint64_t needed = 0;
  for (size_t i = 0; i < needs->read_count; i++) {
    if (!may(AT_FDCWD, needs->reads[i], R_OK)) needed |= RIGHT(CAP_DAC_READ_SEARCH);
  }
  for (const struct place *place = needs->places; place < needs->places + PLACES; place++) {
    if (place->file == NULL) continue;
    if (!may(place->folder, ".", W_OK | X_OK) || !may(place->folder, place->name, W_OK)) needed |= RIGHT(CAP_DAC_OVERRIDE);
  }
  set(held);
  return needed;
}

static uint64_t needed(const struct needs *needs) {
  struct rlimit lockable;
  uint64_t kept = 0;
  if (getrlimit(RLIMIT_MEMLOCK, &lockable) != 0 || lockable.rlim_cur < KEY_BYTES) kept |= RIGHT(CAP_IPC_LOCK);
  if (needs->low_port) kept |= RIGHT(CAP_NET_BIND_SERVICE);
  if (needs->runs_as) kept |= RIGHT(CAP_SETUID) | RIGHT(CAP_SETGID) | RIGHT(CAP_CHOWN); /* a new log is that user's */
  /* A server-info file with a token is its reader's; at the end it is looked into, and removed, from a sticky folder too. */
  if (needs->allows_users && needs->issues_token) kept |= RIGHT(CAP_CHOWN) | RIGHT(CAP_FOWNER) | RIGHT(CAP_DAC_READ_SEARCH);
  return kept | needed_for_files(needs);
}

/* Takes the others from the bounding set, of which root gets all at exec, and from the inheritable and ambient ones. */
void drop_capabilities(const struct needs *needs) {
  capabilities held;
  if (!get(held)) return;
  uint64_t kept = needed(needs);
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    if ((kept & RIGHT(capability)) == 0) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); /* refused to who has no CAP_SETPCAP: exec grants them none */
  }
  for (int word = 0; word < WORDS; word++) held[word].inheritable &= (uint32_t)(kept >> (word * WORD_BITS)); /* the ambient set goes with it */
  set(held);
}

/* Whether an argument names it: `--policy <(command)` makes /dev/fd/63 of a shell's. */
static bool is_named(int descriptor, char *const arguments[]) {
  for (; *arguments != NULL; arguments++) {
    const char *at = strstr(*arguments, "/fd/");
    if (at != NULL && strtol(at + strlen("/fd/"), NULL, 10) == descriptor) return true;
  }
  return false;
}

/* Sockets that a service manager passes to this very process, sd_listen_fds(3). */
static int end_of_passed(void) {
  const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
  bool passed = count != NULL && pid != NULL && atoi(pid) == getpid() && atoi(count) > 0;
  return passed ? FIRST_INHERITED + atoi(count) : FIRST_INHERITED;
}

void close_others_at_exec(char *const arguments[]) {
  DIR *folder = opendir("/proc/self/fd");
  if (folder == NULL) return;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    int descriptor = atoi(entry->d_name);
    if (descriptor >= end_of_passed() && !is_named(descriptor, arguments)) fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  }
  closedir(folder);
}
