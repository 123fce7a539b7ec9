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

enum { MAX_SIGNAL = 64 };

static const char *const passed_on[] = {
  "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
  "LISTEN_FDS", "LISTEN_PID", /* socket activation, sd_listen_fds(3) */
};

enum { PASSED_ON = sizeof passed_on / sizeof *passed_on };

void fail(int code, const char *hint, const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("responses-api-proxy: ", stderr);
  vfprintf(stderr, format, values);
  fprintf(stderr, "\nhint: %s\n", hint);
  exit(code);
}

const char *reason(void) {
  static char words[128];
  snprintf(words, sizeof words, "%s", strerror(errno));
  words[0] = (char)tolower(words[0]);
  return words;
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

static char *variable(const char *name, const char *value) {
  size_t length = strlen(name) + 1 + strlen(value) + 1;
  char *text = malloc(length);
  if (text == NULL) fail(EXIT_FAILED, "free some memory", "cannot start: %s", reason());
  snprintf(text, length, "%s=%s", name, value);
  return text;
}

/* The open folders: "--server-info=3 --audit-log=4 ". */
static char *folders(const struct needs *needs) {
  static char text[PLACES * 32];
  size_t length = 0;
  for (const struct place *place = needs->places; place < needs->places + PLACES; place++) {
    if (place->file != NULL) length += (size_t)snprintf(text + length, sizeof text - length, "%s=%d ", place->flag, place->folder);
  }
  return text;
}

/*
 * The daemon's whole environment. By the first variable it knows that it was started here (src/run/hardening.ts). `landlock`
 * says why that is missing (in words) or incomplete (its version), for the daemon to explain; NULL if neither.
 */
static char **environment(const struct needs *needs, const char *landlock) {
  static char *variables[PASSED_ON + 4];
  char mask[sizeof "ffffffffffffffff"];
  size_t count = 0;
  snprintf(mask, sizeof mask, "%llx", ignored_signals());
  variables[count++] = variable("RESPONSES_API_PROXY_IGNORED_SIGNALS", mask);
  variables[count++] = variable("RESPONSES_API_PROXY_FOLDERS", folders(needs));
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
  struct needs needs;
  char version_text[16];
  const char *landlock = NULL, *open = harden();
  if (open != NULL) fail(EXIT_UNSAFE, "a seccomp profile may refuse prctl or setrlimit; allow them", "cannot forbid %s: %s", open, reason());
  read_needs(command, &needs);
  close_others_at_exec(command);
  open_folders(&needs);
  drop_capabilities(&needs);
  if (!needs.no_sandbox) {
    int version;
    if (!restrict_files_and_ports(*command, &needs, &version)) landlock = strerror(errno);
    else if (version < LANDLOCK_WITH_PORTS) {
      snprintf(version_text, sizeof version_text, "%d", version);
      landlock = version_text;
    }
    if (!forbid_foreign_calls()) {
      fail(EXIT_UNSAFE, "a kernel without seccomp filters, or a seccomp profile, refuses them; --unsafe-no-sandbox goes without",
           "cannot forbid system calls: %s", reason());
    }
  }
  execve(*command, command, environment(&needs, landlock));
  fail(EXIT_FAILED, "the first node on PATH has to be the program itself, not a script", "cannot start %s: %s", *command, reason());
}
