/*
 * Memory for secrets: never in swap, in a core dump or in a forked child. Where the kernel has memfd_secret(2), no other
 * process can read it, not even as root.
 *
 *     | guard page |         whole pages          | guard page |
 *     | PROT_NONE  | unused | data .............. | PROT_NONE  |
 *
 * The data ends right below the upper guard page, so an overrun by one byte faults. Guard pages are never populated and
 * do not count against RLIMIT_MEMLOCK; the pages between them do.
 */
#include "native.h"

#include "syscall_numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct pages {
  unsigned char *start;
  size_t bytes;
};

static size_t page_bytes(void) {
  return (size_t)sysconf(_SC_PAGESIZE);
}

/* Reserves address space for the pages and both guards, all of it still inaccessible. */
static bool reserve(struct pages *pages) {
  void *range = mmap(NULL, pages->bytes + 2 * page_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (range == MAP_FAILED) return false;
  pages->start = (unsigned char *)range + page_bytes();
  return true;
}

/*
 * Makes the kernel back every page now. If it cannot, touching the page raises SIGBUS, but a system call that writes to
 * it fails with EFAULT. MADV_POPULATE_WRITE does not work on secret memory.
 */
static bool populate(const struct pages *pages) {
  for (size_t offset = 0; offset < pages->bytes; offset += page_bytes()) {
    if (syscall(SYS_getrandom, pages->start + offset, 1, 0) != 1) return false;
  }
  memset(pages->start, 0, pages->bytes);
  return true;
}

/*
 * Secret pages leave the kernel's direct map: read(2), write(2) and this process's own instructions reach them,
 * /proc/PID/mem, process_vm_readv(2) and a core dump do not (mm/secretmem.c). They are always locked.
 */
static bool map_secret(struct pages *pages) {
  int fd = (int)syscall(NR_memfd_secret, O_CLOEXEC);
  if (fd < 0) return false;
  /* EAGAIN: RLIMIT_MEMLOCK. What has been mapped stays: a failed MAP_FIXED may have left a hole in the reservation, and another
     thread may have mapped something there since. */
  bool usable = ftruncate(fd, (off_t)pages->bytes) == 0 && reserve(pages) &&
                mmap(pages->start, pages->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED &&
                madvise(pages->start, pages->bytes, MADV_DONTFORK) == 0 && populate(pages);
  int error = errno;
  /* The mapping keeps the memory alive; a descriptor would be one more way in (pidfd_getfd(2)). */
  close(fd);
  errno = error;
  return usable;
}

static bool map_private(struct pages *pages) {
  return reserve(pages) && mprotect(pages->start, pages->bytes, PROT_READ | PROT_WRITE) == 0 &&
         madvise(pages->start, pages->bytes, MADV_DONTDUMP) == 0 && madvise(pages->start, pages->bytes, MADV_DONTFORK) == 0;
}

bool allocate_locked(size_t bytes, bool waive_locking, struct area *area) {
  struct pages pages = {.bytes = (bytes + page_bytes() - 1) / page_bytes() * page_bytes()};

  area->kind = "memfd_secret";
  if (!map_secret(&pages)) {
    area->secret_error = errno;
    area->kind = "mlock";
    bool mapped = map_private(&pages);
    if (!mapped || mlock(pages.start, pages.bytes) != 0) {
      area->lock_error = errno;
      area->kind = "unlocked";
      if (!mapped || !waive_locking) return false; /* the caller ends, and the pages with it */
    }
  }
  area->data = pages.start + (pages.bytes - bytes);
  return true;
}
