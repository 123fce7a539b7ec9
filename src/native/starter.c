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

static const char *const passed_on[] = {
  "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
  "LISTEN_FDS", "LISTEN_PID", /* socket activation, sd_listen_fds(3) */
};

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

static bool is_passed_on(const char *entry) {
  for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++) {
    size_t length = strlen(passed_on[i]);
    if (strncmp(entry, passed_on[i], length) == 0 && entry[length] == '=') return true;
  }
  return false;
}

/* All that is left of the caller's environment. */
static void keep_passed_on(void) {
  char **kept = environ;
  for (char **entry = environ; *entry != NULL; entry++) {
    if (is_passed_on(*entry)) *kept++ = *entry;
  }
  *kept = NULL;
}

void tell(const char *name, const char *value) {
  if (setenv(name, value, 1) != 0) fail(EXIT_FAILED, "free some memory", "cannot start: %s", reason());
}

/*
 * Node resets all signals at start. Those that stop the daemon, and that nohup or a background job ignored, are told, for it to
 * ignore again. By this variable the daemon knows that it was started here (src/run/signals.ts).
 */
static void tell_ignored_signals(void) {
  static const struct { int number; const char *name; } stopping[] = {{SIGHUP, "SIGHUP "}, {SIGINT, "SIGINT "}, {SIGTERM, "SIGTERM "}};
  char names[sizeof "SIGHUP SIGINT SIGTERM "] = "";
  for (size_t i = 0; i < sizeof stopping / sizeof *stopping; i++) {
    struct sigaction action;
    if (sigaction(stopping[i].number, NULL, &action) == 0 && action.sa_handler == SIG_IGN) strcat(names, stopping[i].name);
  }
  tell("RESPONSES_API_PROXY_IGNORED_SIGNALS", names);
}

int main(int count, char **arguments) {
  if (count < 2) {
    fputs("usage: starter NODE ARGUMENT...\n", stderr);
    return EXIT_MISUSED;
  }
  char *const *command = arguments + 1;
  struct needs needs;
  const char *open = harden();
  if (open != NULL) fail(EXIT_UNSAFE, "a seccomp profile may refuse prctl or setrlimit; allow them", "cannot forbid %s: %s", open, reason());
  read_needs(command, &needs);
  keep_passed_on();
  tell_ignored_signals();
  close_others_at_exec(command);
  open_folders(&needs);
  drop_capabilities(&needs);
  if (!needs.no_sandbox) {
    restrict_files_and_ports(*command, &needs);
    if (!forbid_foreign_calls()) {
      fail(EXIT_UNSAFE, "a kernel without seccomp filters, or a seccomp profile, refuses them; --unsafe-no-sandbox goes without",
           "cannot forbid system calls: %s", reason());
    }
  }
  execv(*command, command);
  fail(EXIT_FAILED, "the first node on PATH has to be the program itself, not a script", "cannot start %s: %s", *command, reason());
}
