/*
 * How the daemon checks that the starter's filter is in place: io_uring_setup(2) with this many entries fails with an
 * errno that no kernel and no other filter would give. /proc/self/status counts filters, but does not say whose they are.
 */
#ifndef STARTER_PROBE_H
#define STARTER_PROBE_H

#include <errno.h>

#define STARTER_PROBE 0x72617078u
#define STARTER_ANSWER ENOANO

#endif
