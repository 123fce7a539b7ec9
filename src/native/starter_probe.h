/*
 * How the daemon finds out that the starter's filter is in place: io_uring_setup(2) with this many entries fails in a
 * way that neither a kernel nor another filter would choose. /proc/self/status counts filters, not whose they are.
 */
#ifndef STARTER_PROBE_H
#define STARTER_PROBE_H

#include <errno.h>

#define STARTER_PROBE 0x72617078u
#define STARTER_ANSWER ENOANO

#endif
