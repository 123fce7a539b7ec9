/*
 * starter NODE ARGUMENT...
 *
 * Sets up what must be in place before node has threads, gives it an environment from an allowlist, and becomes node: the
 * pid and stdin stay those of the command that was started. HTTPS_PROXY may hold a password, so it is passed on in the
 * environment only; every user can read arguments.
 *
 * What is required:
 * - No new privileges, no core dumps, and the filters of both stages. Every kernel since 4.14 has them, and the default
 *   profiles of docker and podman allow them. If one is refused, the start ends with exit code 3.
 * - Landlock is optional, see starter_landlock.c.
 * - --unsafe-no-sandbox skips the filters and Landlock, for kernels and emulators that cannot filter system calls.
 */
#include "starter.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_MISUSED = 2, EXIT_UNSAFE = 3, MAX_SIGNAL = 64 };

static const char *const passed_on[] = {
  "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy",
  "LISTEN_FDS", "LISTEN_PID", /* socket activation, sd_listen_fds(3) */
};

enum { PASSED_ON = sizeof passed_on / sizeof *passed_on };

_Noreturn static void fail(int code, const char *hint, int error, const char *what, const char *object) {
  const char *reason = strerror(error);
  fprintf(stderr, "responses-api-proxy: %s%s: %c%s\nhint: %s\n", what, object, tolower(reason[0]), reason + 1, hint);
  exit(code);
}

static void must(struct failure failure, const char *what) {
  if (failure.error == 0) return;
  bool is_filter = strcmp(failure.syscall, "seccomp") == 0;
  fail(EXIT_UNSAFE,
       is_filter ? "a kernel without seccomp filters, or a seccomp profile, refuses them; --unsafe-no-sandbox goes without"
                 : "a seccomp profile may refuse prctl or setrlimit; allow them",
       failure.error, what, "");
}

/* Node resets all signals at start. Signals that nohup or a background job ignored are passed on for it to ignore again. */
static unsigned long long ignored_signals(void) {
  unsigned long long mask = 0;
  for (int number = 1; number <= MAX_SIGNAL; number++) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN) mask |= 1ULL << (number - 1);
  }
  return mask;
}

/* Why Landlock is missing (an errno in words) or incomplete (its version), for the daemon to explain; NULL if neither. */
static const char *lacking(struct failure failure, int version) {
  static char word[16];
  if (failure.error != 0) return strerror(failure.error);
  if (version >= LANDLOCK_WITH_PORTS) return NULL;
  snprintf(word, sizeof word, "%d", version);
  return word;
}

static char *variable(const char *name, const char *value) {
  size_t length = strlen(name) + 1 + strlen(value) + 1;
  char *text = malloc(length);
  if (text == NULL) fail(EXIT_FAILED, "free some memory", ENOMEM, "cannot start", "");
  snprintf(text, length, "%s=%s", name, value);
  return text;
}

/* The daemon's whole environment. src/run/hardening.ts refuses any other variable. */
static char **environment(const char *landlock) {
  static char *variables[PASSED_ON + 3];
  char mask[sizeof "ffffffffffffffff"];
  size_t count = 0;
  snprintf(mask, sizeof mask, "%llx", ignored_signals());
  variables[count++] = variable("RESPONSES_API_PROXY_IGNORED_SIGNALS", mask);
  if (landlock != NULL) variables[count++] = variable("RESPONSES_API_PROXY_LANDLOCK", landlock);
  for (size_t i = 0; i < PASSED_ON; i++) {
    const char *value = getenv(passed_on[i]);
    if (value != NULL) variables[count++] = variable(passed_on[i], value);
  }
  return variables;
}

int main(int count, char **arguments) {
  if (count < 2) {
    fputs("usage: starter NODE ARGUMENT...\n", stderr);
    return EXIT_MISUSED;
  }
  char *const *command = arguments + 1;
  struct needs needs = read_needs(command);
  const char *landlock = NULL;
  must(forbid_core_dumps(), "cannot forbid core dumps");
  must(forbid_new_privileges(), "cannot forbid new privileges");
  if (!needs.no_sandbox) {
    int version;
    struct failure failure = restrict_files_and_ports(*command, &needs, &version);
    landlock = lacking(failure, version);
    must(forbid_foreign_calls(), "cannot forbid system calls");
  }
  execve(*command, command, environment(landlock));
  fail(EXIT_FAILED, "the first node on PATH has to be the program itself, not a script", errno, "cannot start ", *command);
}
