/*
 * Closes the process to other programs before it reads the key. Each setting is read back from the kernel, because some
 * sandboxes accept a call and ignore it.
 */
#include "native.h"

#include "filter.h"
#include "starter_probe.h"
#include "syscall_numbers.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static struct failure not_obeyed(const char *syscall) {
  errno = EPERM;
  return failed(syscall);
}

/*
 * ptrace(2) asks whether it may attach, and attaches a moment later. It holds a lock meanwhile (cred_guard_mutex) that
 * putting a filter on all threads takes too. So once this filter, which forbids nothing, is in place, TracerPid shows every
 * tracer that was still allowed.
 */
static struct failure await_tracers(void) {
  struct filter nothing = {.length = 0};
  return filter_install(&nothing);
}

/*
 * No ptrace(2), no /proc/PID/mem, environ, fd or maps for the same user, and no core dump of any kind. The
 * setting belongs to the address space, so it covers all threads. execve(2) and a change of uid or gid reset it
 * (commit_creds() falls back to fs.suid_dumpable); call this again afterwards.
 */
struct failure forbid_tracing(void) {
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return failed("prctl");
  if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) return not_obeyed("prctl");
  return is_started_by_starter() ? await_tracers() : (struct failure){0}; /* --unsafe-no-sandbox: no filters at all */
}

/*
 * No core file even if the setting above is reset. A core_pattern that pipes to a program ignores this limit (core(5));
 * only forbid_tracing() stops that.
 */
struct failure forbid_core_dumps(void) {
  struct rlimit limit = {0, 0};
  if (setrlimit(RLIMIT_CORE, &limit) != 0) return failed("setrlimit");
  if (getrlimit(RLIMIT_CORE, &limit) != 0) return failed("getrlimit");
  if (limit.rlim_cur != 0 || limit.rlim_max != 0) return not_obeyed("setrlimit");
  return (struct failure){0};
}

/*
 * From here on execve(2) grants no set-user-ID bits and no file capabilities. The setting belongs to a thread and to those
 * it creates later. The starter makes it while there is only one; the daemon calls this again to be sure.
 */
struct failure forbid_new_privileges(void) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("prctl");
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return not_obeyed("prctl");
  return (struct failure){0};
}

bool is_started_by_starter(void) {
  return syscall(NR_io_uring_setup, STARTER_PROBE, NULL) == -1 && errno == STARTER_ANSWER;
}
