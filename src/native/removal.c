/* Removes a file by the folder that is held open and a name in it. Node has unlink(2) alone, which takes a path. */
#include "native.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct failure unlink_at(int folder, const char *name) {
  /* A name, and in that folder alone: with a slash in it, it could lead elsewhere. */
  if (strchr(name, '/') != NULL) {
    errno = EINVAL;
    return failed("unlinkat");
  }
  return unlinkat(folder, name, 0) == 0 ? (struct failure){0} : failed("unlinkat");
}
