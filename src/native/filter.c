/* Assembles seccomp filters. Calls that are always allowed skip the filter: the kernel caches them (Linux 5.11). */
#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Call numbers differ by architecture. On others than these, filter_install() fails. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define NATIVE_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define NATIVE_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define NATIVE_ARCHITECTURE 0
#endif

#ifdef __x86_64__
static const uint32_t x32_bit = 0x40000000;
#endif

#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif

static void emit(struct filter *filter, struct sock_filter instruction) {
  if (filter->length < MAX_FILTER_LENGTH) filter->code[filter->length] = instruction;
  filter->length++; /* filter_install() refuses a filter that got too long */
}

static void load(struct filter *filter, size_t offset) {
  emit(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void answer(struct filter *filter, uint32_t action) {
  emit(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* `if_true` and `if_false` are how many instructions to skip. */
static void compare(struct filter *filter, unsigned short how, uint32_t value, size_t if_true, size_t if_false) {
  emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | how | BPF_K, value, (uint8_t)if_true, (uint8_t)if_false));
}

static void load_low_half(struct filter *filter, unsigned argument) {
  load(filter, offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t)); /* both architectures are little-endian */
}

void filter_begin(struct filter *filter) {
  filter->length = 0;
  load(filter, offsetof(struct seccomp_data, arch));
  compare(filter, BPF_JEQ, NATIVE_ARCHITECTURE, 1, 0);
  answer(filter, KILL);
  load(filter, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
  compare(filter, BPF_JGE, x32_bit, 0, 1);
  answer(filter, KILL);
#endif
}

void filter_calls(struct filter *filter, const int calls[], size_t count, uint32_t forbidden) {
  for (size_t i = 0; i < count; i++) {
    compare(filter, BPF_JEQ, (uint32_t)calls[i], 0, 1);
    answer(filter, forbidden);
  }
}

void filter_newer_than(struct filter *filter, int call, uint32_t forbidden) {
  compare(filter, BPF_JGT, (uint32_t)call, 0, 1);
  answer(filter, forbidden);
}

/*
 * All rules about arguments have one shape: skip the rule for another call; else compare the argument, and either forbid
 * the call or load its number again and go on to the next rule.
 */
static void begin_argument(struct filter *filter, int call, unsigned argument, size_t comparisons) {
  compare(filter, BPF_JEQ, (uint32_t)call, 0, comparisons + 3);
  load_low_half(filter, argument);
}

static void end_argument(struct filter *filter, uint32_t forbidden) {
  answer(filter, forbidden);
  load(filter, offsetof(struct seccomp_data, nr));
}

void filter_any_bit(struct filter *filter, int call, unsigned argument, uint32_t bits, uint32_t forbidden) {
  begin_argument(filter, call, argument, 1);
  compare(filter, BPF_JSET, bits, 0, 1);
  end_argument(filter, forbidden);
}

void filter_missing_bit(struct filter *filter, int call, unsigned argument, uint32_t bit, uint32_t forbidden) {
  begin_argument(filter, call, argument, 1);
  compare(filter, BPF_JSET, bit, 1, 0);
  end_argument(filter, forbidden);
}

void filter_values(struct filter *filter, int call, unsigned argument, const uint32_t values[], size_t count, uint32_t forbidden) {
  begin_argument(filter, call, argument, count);
  for (size_t left = count; left > 0; left--) compare(filter, BPF_JEQ, values[count - left], left - 1, left == 1);
  end_argument(filter, forbidden);
}

void filter_other_values(struct filter *filter, int call, unsigned argument, const uint32_t values[], size_t count, uint32_t forbidden) {
  begin_argument(filter, call, argument, count);
  for (size_t left = count; left > 0; left--) compare(filter, BPF_JEQ, values[count - left], left, 0);
  end_argument(filter, forbidden);
}

void filter_pointer(struct filter *filter, int call, unsigned argument, uint32_t forbidden) {
  begin_argument(filter, call, argument, 3);
  compare(filter, BPF_JEQ, 0, 0, 2);
  load(filter, offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t) + sizeof(uint32_t));
  compare(filter, BPF_JEQ, 0, 1, 0);
  end_argument(filter, forbidden);
}

bool filter_install(struct filter *filter) {
  answer(filter, SECCOMP_RET_ALLOW);
  errno = ENOSYS;
  if (NATIVE_ARCHITECTURE == 0 || filter->length > MAX_FILTER_LENGTH) return false;
  struct sock_fprog program = {filter->length, filter->code};
  /* SPEC_ALLOW keeps kernels before 5.16 from slowing the process down (Spectre v4). Kernels before 4.17 do not know it. */
  unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result < 0 && errno == EINVAL) result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
  if (result > 0) errno = EBUSY; /* the id of a thread that cannot take the filter, because it has installed one of its own */
  return result == 0;
}
