/* Removes a file from an open folder. Node offers only unlink(2), which resolves a whole path again. */
#include "native.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct failure unlink_at(int folder, const char *name) {
  /* A bare name: with a slash it could lead out of the folder. */
  if (strchr(name, '/') != NULL) {
    errno = EINVAL;
    return failed("unlinkat");
  }
  return unlinkat(folder, name, 0) == 0 ? (struct failure){0} : failed("unlinkat");
}
