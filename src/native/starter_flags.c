/*
 * Reads the few flags that Landlock's rules depend on. This does not validate: the daemon refuses wrong arguments. One
 * that is misread here leads to a port or folder that is not allowed, or to one too many; an attacker has no say in them.
 */
#include "starter.h"

#include <stdlib.h>
#include <string.h>

enum { HTTP_PORT = 80, HTTPS_PORT = 443, FIRST_FREE_PORT = 1024 };

/* The value of `flag`, given as `--flag value` or `--flag=value`; NULL if this is another argument. */
static const char *value_of(const char *flag, char *const *argument) {
  size_t length = strlen(flag);
  if (strncmp(*argument, flag, length) != 0) return NULL;
  if ((*argument)[length] == '=') return *argument + length + 1;
  return (*argument)[length] == '\0' ? argument[1] : NULL;
}

static void add_port(struct needs *needs, unsigned long port) {
  if (needs->port_count == MAX_PORTS || port < 1 || port > 65535) needs->ports_are_known = false;
  else needs->ports[needs->port_count++] = (uint16_t)port;
}

/* Adds the port of a URL such as `https://[::1]:8443/path`; `host:port` works too. */
static void add_port_of(struct needs *needs, const char *url) {
  const char *authority = strstr(url, "://");
  bool is_http = strncasecmp(url, "https", strlen("https")) != 0;
  authority = authority == NULL ? url : authority + strlen("://");
  const char *end = authority + strcspn(authority, "/?#\\");
  const char *colon = NULL;
  for (const char *at = authority; at < end; at++) {
    if (*at == '@' || *at == ']') colon = NULL;
    if (*at == ':') colon = at;
  }
  if (colon == NULL || colon + 1 == end) {
    add_port(needs, is_http ? HTTP_PORT : HTTPS_PORT);
    return;
  }
  char *rest;
  unsigned long port = strtoul(colon + 1, &rest, 10);
  add_port(needs, colon[1] >= '0' && colon[1] <= '9' && rest == end ? port : 0);
}

static void add_read(struct needs *needs, const char *file) {
  if (file != NULL && needs->read_count < MAX_READS) needs->reads[needs->read_count++] = file;
}

void read_needs(char *const arguments[], struct needs *needs) {
  static const char *const proxies[] = {"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", NULL};
  static const char *const read_flags[] = {"--policy", "--client-token-file", "--upstream-ca", NULL};
  *needs = (struct needs){
    .places = {[SERVER_INFO] = {.flag = "--server-info"}, [AUDIT_LOG] = {.flag = "--audit-log"}},
    .ports_are_known = true,
  };
  const char *upstream = NULL;
  for (char *const *argument = arguments; *argument != NULL; argument++) {
    if (strcmp(*argument, "--unsafe-no-sandbox") == 0) needs->no_sandbox = true;
    for (struct place *place = needs->places; place < needs->places + PLACES; place++) {
      const char *file = value_of(place->flag, argument);
      if (file != NULL && *file != '\0') place->file = file;
    }
    for (const char *const *flag = read_flags; *flag != NULL; flag++) add_read(needs, value_of(*flag, argument));
    if (needs->read_count < 2 && **argument == '/') add_read(needs, *argument); /* node and its script: the launcher puts no other path before them */
    const char *port = value_of("--port", argument);
    if (port != NULL && strtoul(port, NULL, 10) < FIRST_FREE_PORT) needs->low_port = true;
    if (value_of("--run-as", argument) != NULL) needs->runs_as = true;
    if (value_of("--allow-user", argument) != NULL) needs->allows_users = true;
    if (strcmp(*argument, "--issue-token") == 0) needs->issues_token = true;
    const char *url = value_of("--upstream-url", argument), *proxy = value_of("--upstream-proxy", argument);
    if (url != NULL) upstream = url;
    if (proxy != NULL && strcmp(proxy, "none") != 0) add_port_of(needs, proxy);
  }
  add_port_of(needs, upstream == NULL ? "https://api.openai.com" : upstream);
  for (const char *const *name = proxies; *name != NULL; name++) {
    const char *proxy = getenv(*name);
    /* The daemon passes over a SOCKS proxy in ALL_PROXY. */
    if (proxy != NULL && *proxy != '\0' && strncasecmp(proxy, "socks", strlen("socks")) != 0) add_port_of(needs, proxy);
  }
}
