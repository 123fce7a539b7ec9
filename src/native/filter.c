/* Assembles seccomp filters. Calls that are allowed whatever their arguments skip the filter: the kernel remembers them (Linux 5.11). */
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

#ifndef SECCOMP_FILTER_FLAG_LOG
#define SECCOMP_FILTER_FLAG_LOG (1UL << 1)
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

void filter_calls(struct filter *filter, const int calls[], size_t count, uint32_t action) {
  for (size_t i = 0; i < count; i++) {
    compare(filter, BPF_JEQ, (uint32_t)calls[i], 0, 1);
    answer(filter, action);
  }
}

void filter_from(struct filter *filter, int call, uint32_t action) {
  compare(filter, BPF_JGE, (uint32_t)call, 0, 1);
  answer(filter, action);
}

/* Compares half of an argument, and decides or goes on: as many instructions as values, and 3. */
static void decide(struct filter *filter, unsigned half, uint32_t mask, const uint32_t values[], size_t count, bool if_one, uint32_t action) {
  load(filter, offsetof(struct seccomp_data, args) + half * sizeof(uint32_t)); /* both architectures are little-endian */
  emit(filter, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
  for (size_t left = count; left > 0; left--) {
    size_t to_answer = left - 1, past_answer = left;
    if (if_one) compare(filter, BPF_JEQ, values[count - left], to_answer, left == 1);
    else compare(filter, BPF_JEQ, values[count - left], past_answer, 0);
  }
  answer(filter, action);
}

/* Skips the rule for another call; loads the call's number again behind it. */
static void about_half(struct filter *filter, int call, unsigned half, uint32_t mask, const uint32_t values[], size_t count, bool if_one,
                       uint32_t action) {
  compare(filter, BPF_JEQ, (uint32_t)call, 0, count + 4);
  decide(filter, half, mask, values, count, if_one, action);
  load(filter, offsetof(struct seccomp_data, nr));
}

void filter_only(struct filter *filter, int call, unsigned argument, uint32_t mask, const uint32_t values[], size_t count, uint32_t action) {
  about_half(filter, call, 2 * argument, mask, values, count, false, action);
}

void filter_not(struct filter *filter, int call, unsigned argument, uint32_t mask, const uint32_t values[], size_t count, uint32_t action) {
  about_half(filter, call, 2 * argument, mask, values, count, true, action);
}

void filter_only_after(struct filter *filter, int call, unsigned argument, uint32_t value, uint32_t mask, const uint32_t values[], size_t count,
                       uint32_t action) {
  compare(filter, BPF_JEQ, (uint32_t)call, 0, count + 6);
  load(filter, offsetof(struct seccomp_data, args[argument]));
  compare(filter, BPF_JEQ, value, 0, count + 3);
  decide(filter, 2 * (argument + 1), mask, values, count, false, action);
  load(filter, offsetof(struct seccomp_data, nr));
}

void filter_pointer(struct filter *filter, int call, unsigned argument, uint32_t forbidden) {
  about_half(filter, call, 2 * argument, WHOLE, VALUES(0), false, forbidden);
  about_half(filter, call, 2 * argument + 1, WHOLE, VALUES(0), false, forbidden);
}

bool filter_install(struct filter *filter, uint32_t otherwise, bool logs) {
  answer(filter, otherwise);
  errno = ENOSYS;
  if (NATIVE_ARCHITECTURE == 0 || filter->length > MAX_FILTER_LENGTH) return false;
  struct sock_fprog program = {filter->length, filter->code};
  unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC | (logs ? SECCOMP_FILTER_FLAG_LOG : 0);
  /* SPEC_ALLOW keeps kernels before 5.16 from slowing the process down (Spectre v4). Kernels before 4.17 do not know it. */
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
  if (result < 0 && errno == EINVAL) result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result > 0) errno = EBUSY; /* the id of a thread that cannot take the filter, because it has installed one of its own */
  return result == 0;
}
