// What the upstream and the client of the bench agree on: an event's text, a body's bytes, and the clock.
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// The period of a body is a prime, so that no cut at a round number goes unnoticed. transfers.ts has the same formula.
enum { bodyPeriod = 65521, maxEventBytes = 512 };

static inline unsigned char bodyByte(uint64_t position) {
  const uint32_t at = (uint32_t)(position % bodyPeriod);
  return (unsigned char)(at * 167 + (at >> 8) * 13);
}

// The monotonic clock is the same for every process of a machine, so the difference of two stamps is a true delay.
static inline int64_t nowNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// One delta as the Responses API sends it, with the time when it left. Returns its length.
static inline int writeEvent(char *text, unsigned stream, unsigned number, int64_t sentNs) {
  return snprintf(text, maxEventBytes,
    "event: response.output_text.delta\n"
    "data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_%032x\",\"output_index\":0,\"content_index\":0,"
    "\"delta\":\" token\",\"sequence_number\":%u,\"sent\":\"%016llx\"}\n\n", stream, number, (unsigned long long)sentNs);
}

// The stamp stands this far before the event's end: 16 digits, then `"}` and the two line feeds.
enum { stampBytes = 16, bytesAfterStamp = 4 };

static inline void die(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

#endif
