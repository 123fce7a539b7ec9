/* Finds the account for a name or uid. The C library does it, so every source in nsswitch.conf counts. */
#include "native.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

/* A uid in decimal, or -1. 2^32 - 1 is not a uid: chown(2) and setuid(2) read it as "leave unchanged". */
static long long parse_uid(const char *text) {
  char *end;
  if (text[0] < '0' || text[0] > '9') return -1;
  unsigned long long value = strtoull(text, &end, 10);
  return *end == '\0' && value < 0xffffffffULL ? (long long)value : -1;
}

bool find_account(const char *name_or_uid, struct account *account) {
  /* A user may be named 1000; then the name wins, as with chown(1). */
  struct passwd *entry = getpwnam(name_or_uid);
  long long uid = parse_uid(name_or_uid);
  if (entry == NULL && uid >= 0) entry = getpwuid((uid_t)uid);
  if (entry == NULL || strlen(entry->pw_name) >= sizeof account->name) return false;
  strcpy(account->name, entry->pw_name);
  account->uid = entry->pw_uid;
  account->gid = entry->pw_gid;
  return true;
}
