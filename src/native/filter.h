/*
 * filter.c: builds a seccomp filter from rules. The first rule that is about a call decides. A call by another ABI (32-bit,
 * x32) kills the process, because call numbers differ there.
 */
#ifndef FILTER_H
#define FILTER_H

#include "native.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

enum { MAX_FILTER_LENGTH = 512 };

/* What happens on a call: KILL where only an attacker makes it, REFUSE where a library may try. */
#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U /* Linux 4.14 */
#endif
#define ALLOW SECCOMP_RET_ALLOW
#define KILL SECCOMP_RET_KILL_PROCESS
#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))

struct filter {
  struct sock_filter code[MAX_FILTER_LENGTH];
  unsigned short length;
};

void filter_begin(struct filter *filter);
void filter_calls(struct filter *filter, const int calls[], size_t count, uint32_t action);
void filter_from(struct filter *filter, int call, uint32_t action); /* this number and all higher ones */

/*
 * Rules about an argument, of which 0 is the first: what happens if `mask` leaves of it none of the values (only), or one of
 * them (not). Other calls go on to the next rule. These look at the low 32 bits, as the kernel does where it takes an int.
 */
void filter_only(struct filter *filter, int call, unsigned argument, uint32_t mask, const uint32_t values[], size_t count, uint32_t action);
void filter_not(struct filter *filter, int call, unsigned argument, uint32_t mask, const uint32_t values[], size_t count, uint32_t action);

/* As filter_only() about the next argument, where this one is `value`. */
void filter_only_after(struct filter *filter, int call, unsigned argument, uint32_t value, uint32_t mask, const uint32_t values[], size_t count,
                       uint32_t action);

/* Forbids any pointer but NULL. */
void filter_pointer(struct filter *filter, int call, unsigned argument, uint32_t forbidden);

/*
 * Puts the filter on all threads of this process, for good. Needs no_new_privs.
 *
 * otherwise: what happens to a call that no rule decides about.
 * logs: whether the kernel logs what is refused, too; what kills it always does.
 */
bool filter_install(struct filter *filter, uint32_t otherwise, bool logs);

#define CALLS(list) list, sizeof(list) / sizeof *(list)
#define VALUES(...) (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)
#define WHOLE 0xffffffffU     /* a mask */
#define SOCKET_TYPE 0xfU      /* the mask for it, without SOCK_CLOEXEC and SOCK_NONBLOCK */

/*
 * How the daemon checks that the starter's filter is in place: io_uring_setup(2) with this many entries fails with an
 * errno that no kernel and no other filter would give. /proc/self/status counts filters, but does not say whose they are.
 */
#define STARTER_PROBE 0x72617078u
#define STARTER_ANSWER ENOANO

#endif
