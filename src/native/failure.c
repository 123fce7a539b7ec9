/* Failed system calls, named as in errno(3). */
#include "native.h"

#include <errno.h>

struct failure failed(const char *syscall) {
  return (struct failure){.syscall = syscall, .error = errno};
}

/* The errnos documented for the calls in this folder. strerrorname_np(3) exists in glibc only. */
const char *errno_name(int error) {
  switch (error) {
#define NAME(code) case code: return #code
    NAME(E2BIG);
    NAME(EACCES);
    NAME(EADDRNOTAVAIL);
    NAME(EAFNOSUPPORT);
    NAME(EAGAIN);
    NAME(EBADF);
    NAME(EBADMSG);
    NAME(EBUSY);
    NAME(ECONNREFUSED);
    NAME(EFAULT);
    NAME(EINVAL);
    NAME(EISDIR);
    NAME(EMFILE);
    NAME(ENAMETOOLONG);
    NAME(ENETUNREACH);
    NAME(ENFILE);
    NAME(ENOBUFS);
    NAME(ENODEV);
    NAME(ENOENT);
    NAME(ENOMEM);
    NAME(ENOSYS);
    NAME(ENOTDIR);
    NAME(ENOTSOCK);
    NAME(EOPNOTSUPP);
    NAME(EPERM);
    NAME(EPROTONOSUPPORT);
    NAME(EROFS);
#undef NAME
    default: return "EUNKNOWN";
  }
}
