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

static void release(const struct pages *pages) {
  munmap(pages->start - page_bytes(), pages->bytes + 2 * page_bytes());
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
static struct failure map_secret(struct pages *pages) {
  int fd = (int)syscall(NR_memfd_secret, O_CLOEXEC);
  if (fd < 0) return failed("memfd_secret");

  struct failure failure = {0};
  if (ftruncate(fd, (off_t)pages->bytes) != 0 || !reserve(pages)) {
    failure = failed("memfd_secret");
  } else if (mmap(pages->start, pages->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    /* EAGAIN: RLIMIT_MEMLOCK. Keep the reservation: a failed MAP_FIXED may have left a hole in it, and another
       thread may have mapped something there since. */
    failure = failed("memfd_secret");
  } else if (madvise(pages->start, pages->bytes, MADV_DONTFORK) != 0 || !populate(pages)) {
    failure = failed("memfd_secret");
    release(pages);
  }
  /* The mapping keeps the memory alive; a descriptor would be one more way in (pidfd_getfd(2)). */
  close(fd);
  return failure;
}

static struct failure map_private(struct pages *pages) {
  if (!reserve(pages)) return failed("mmap");
  if (mprotect(pages->start, pages->bytes, PROT_READ | PROT_WRITE) == 0 &&
      madvise(pages->start, pages->bytes, MADV_DONTDUMP) == 0 &&
      madvise(pages->start, pages->bytes, MADV_DONTFORK) == 0) {
    return (struct failure){0};
  }
  struct failure failure = failed("mmap");
  release(pages);
  return failure;
}

bool allocate_locked(size_t bytes, bool waive_locking, struct area *area, struct lock_failures *failures) {
  struct pages pages = {.bytes = (bytes + page_bytes() - 1) / page_bytes() * page_bytes()};

  failures->memfd_secret = map_secret(&pages);
  if (failures->memfd_secret.error == 0) {
    area->protection = MEMFD_SECRET;
  } else {
    failures->mlock = map_private(&pages);
    if (failures->mlock.error != 0) return false;
    area->protection = MLOCK;
    if (mlock(pages.start, pages.bytes) != 0) {
      failures->mlock = failed("mlock");
      area->protection = UNLOCKED;
      if (!waive_locking) {
        release(&pages);
        return false;
      }
    }
  }
  area->data = pages.start + (pages.bytes - bytes);
  return true;
}
