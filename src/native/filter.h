/*
 * filter.c: builds a seccomp filter from rules. The first rule that forbids a call decides; a call that no rule forbids is
 * allowed. A call by another ABI (32-bit, x32) kills the process, because call numbers differ there.
 */
#ifndef FILTER_H
#define FILTER_H

#include "native.h"

#include <linux/filter.h>
#include <linux/seccomp.h>

enum { MAX_FILTER_LENGTH = 512 };

/* What happens on a forbidden call: KILL where only an attacker makes it, REFUSE where a library may try. */
#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U /* Linux 4.14 */
#endif
#define KILL SECCOMP_RET_KILL_PROCESS
#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))

struct filter {
  struct sock_filter code[MAX_FILTER_LENGTH];
  unsigned short length;
};

/* `forbidden` is KILL or REFUSE. */
void filter_begin(struct filter *filter);
void filter_calls(struct filter *filter, const int calls[], size_t count, uint32_t forbidden);
void filter_newer_than(struct filter *filter, int call, uint32_t forbidden);

/* These compare the low 32 bits of an argument, as the kernel does where it takes an int. Argument 0 is the first. */
void filter_any_bit(struct filter *filter, int call, unsigned argument, uint32_t bits, uint32_t forbidden);
void filter_missing_bit(struct filter *filter, int call, unsigned argument, uint32_t bit, uint32_t forbidden);
void filter_values(struct filter *filter, int call, unsigned argument, const uint32_t values[], size_t count, uint32_t forbidden);
void filter_other_values(struct filter *filter, int call, unsigned argument, const uint32_t values[], size_t count, uint32_t forbidden);

/* Forbids any pointer but NULL. */
void filter_pointer(struct filter *filter, int call, unsigned argument, uint32_t forbidden);

/* Puts the filter on all threads of this process, for good. Needs no_new_privs. */
bool filter_install(struct filter *filter);

#define CALLS(list) list, sizeof(list) / sizeof *(list)

#endif
