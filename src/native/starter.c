/*
 * starter NODE ARGUMENT...
 *
 * What has to hold before node begins: walls that its threads could not be put behind afterwards, and an environment of
 * an allowlist. It becomes node, so that pid and stdin stay those of the command that was started. It holds no secret,
 * save what HTTPS_PROXY may have in it, and that never becomes an argument, which every user could read.
 *
 * What must hold, and what need not:
 * - No new privileges, no core dumps and the system calls of stage one must. Every kernel since 4.14 has them, and the
 *   profiles of docker and podman allow them; what refuses them is told, and the start ends with 3.
 * - --unsafe-no-sandbox goes without the system calls of both stages and without Landlock: for a kernel or an emulator
 *   that cannot filter system calls.
 * - Landlock need not hold: see starter_landlock.c.
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

/* Node resets every signal to its default at start, so what nohup or a background job had ignored must be handed on. */
static unsigned long long ignored_signals(void) {
  unsigned long long mask = 0;
  for (int number = 1; number <= MAX_SIGNAL; number++) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN) mask |= 1ULL << (number - 1);
  }
  return mask;
}

/* Why Landlock is missing or lacks something, in a word for the daemon to explain; NULL where all is well. */
static const char *lacking(struct failure failure, int version) {
  static char word[16];
  if (failure.error != 0) return errno_name(failure.error);
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

/* All of the daemon's environment. src/run/hardening.ts refuses any other name. */
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
