/*
 * Closes the process to other programs before it reads the key. Each setting is read back from the kernel, because some
 * sandboxes accept a call and ignore it.
 */
#include "native.h"

#include "filter.h"
#include "syscall_numbers.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * ptrace(2) asks whether it may attach, and attaches a moment later. It holds a lock meanwhile (cred_guard_mutex) that
 * putting a filter on all threads takes too. So once this filter, which forbids nothing, is in place, TracerPid shows every
 * tracer that was still allowed.
 */
static bool await_tracers(void) {
  struct filter nothing = {.length = 0};
  return filter_install(&nothing, ALLOW, false);
}

/*
 * - No core file. A core_pattern that pipes to a program ignores this limit (core(5)); the last setting stops that.
 * - No set-user-ID bits and no file capabilities on execve(2). This belongs to a thread and to those it creates later.
 * - No ptrace(2), no /proc/PID/mem, environ, fd or maps for the same user, and no core dump of any kind. This belongs to the
 *   address space, so it covers all threads.
 *
 * The starter does it while there is one thread. execve(2) and a change of uid or gid undo the last one (commit_creds()
 * falls back to fs.suid_dumpable), so the daemon does it again then.
 */
const char *harden(void) {
  struct rlimit limit = {0, 0};
  errno = EPERM; /* for a kernel that accepts a setting and ignores it */
  if (setrlimit(RLIMIT_CORE, &limit) != 0 || getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0 || limit.rlim_max != 0) return "core dumps";
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return "new privileges";
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) return "tracing and /proc/PID/mem of the same user";
  /* --unsafe-no-sandbox: no filters at all */
  return !is_started_by_starter() || await_tracers() ? NULL : "tracing";
}

bool is_started_by_starter(void) {
  return syscall(NR_io_uring_setup, STARTER_PROBE, NULL) == -1 && errno == STARTER_ANSWER;
}
