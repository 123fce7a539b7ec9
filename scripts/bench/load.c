// The bench's client for event streams: opens them at an even pace, reads them all at once, checks every byte, and
// measures each event's delay from its stamp to its arrival. One thread, epoll.
//
//   load PORT tls|plain STREAMS EVENTS INTERVAL_US STREAMS_PER_SECOND [TOKEN]
//
// Prints `begin` just before the first event is due and `end` after the last one, while all streams are still open,
// then one line of JSON. STREAMS_PER_SECOND 0: the streams begin as they are opened, and nothing is said before the JSON.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls.h"
#include "wire.h"

// The exit code where this machine was too busy to open the streams in time.
enum { tooSlow = 2 };
enum { maxStreams = 10000, maxHeadBytes = 8192, readBytes = 65536, requestBytes = 1024 };
static const int64_t settleNs = 300000000, marginNs = 20000000, patienceNs = 10000000000, lateNs = 200000000;

enum State { HEAD, SIZE, CHUNK, AFTER_CHUNK, TRAILER, UNTIL_CLOSE, DONE };

typedef struct Stream {
  int fd;
  SSL *tls;
  unsigned id;
  enum State state;
  // The head's text, then the line that gives a chunk's size.
  char text[maxHeadBytes + 1];
  size_t textLength;
  uint64_t chunkLeft;
  char event[maxEventBytes];
  size_t eventLength;
  unsigned events;
  int64_t requestedNs;
} Stream;

static Stream *streams[maxStreams];
static unsigned streamCount, eventCount, running;
static int64_t start, intervalNs;
static SSL_CTX *context;
static int poller;
static int64_t *delays, *lags, *firsts;
static size_t delayCount, firstCount;
// Whose requests reached the upstream so late that their beginning was over.
static unsigned lateStreams;
static char problem[256];

static void blame(const Stream *stream, const char *what) {
  if (problem[0] == 0) snprintf(problem, sizeof problem, "stream %u after %u events: %.80s", stream->id, stream->events, what);
}

static int64_t beginOf(unsigned id) {
  return start + intervalNs * id / streamCount; // spread evenly over one interval
}

static void takeEvent(Stream *stream, int64_t arrivedNs) {
  char expected[maxEventBytes];
  const char *stamp = stream->event + stream->eventLength - bytesAfterStamp - stampBytes;
  const int64_t sentNs = stream->eventLength > 64 ? (int64_t)strtoull(stamp, NULL, 16) : 0;
  const int length = writeEvent(expected, stream->id, stream->events, sentNs);
  if ((size_t)length != stream->eventLength || memcmp(expected, stream->event, stream->eventLength) != 0) {
    blame(stream, "an event is not as it was sent");
    return;
  }
  if (stream->events == 0) {
    firsts[firstCount++] = arrivedNs - stream->requestedNs;
    if (start > 0 && sentNs - beginOf(stream->id) > lateNs) lateStreams++;
  }
  if (start > 0) lags[delayCount] = sentNs - (beginOf(stream->id) + intervalNs * stream->events);
  delays[delayCount++] = arrivedNs - sentNs;
  stream->events++;
}

static void takeBody(Stream *stream, const char *bytes, size_t length, int64_t arrivedNs) {
  for (size_t i = 0; i < length; i++) {
    if (stream->eventLength == maxEventBytes || stream->events == eventCount) return blame(stream, "more came than was sent");
    stream->event[stream->eventLength++] = bytes[i];
    if (bytes[i] != '\n' || stream->eventLength < 2 || stream->event[stream->eventLength - 2] != '\n') continue;
    takeEvent(stream, arrivedNs);
    stream->eventLength = 0;
  }
}

static void takeHead(Stream *stream) {
  if (strncmp(stream->text, "HTTP/1.1 200 ", 13) != 0) return blame(stream, stream->text);
  if (strcasestr(stream->text, "\r\ncontent-type: text/event-stream\r\n") == NULL) return blame(stream, "not an event stream");
  stream->state = strcasestr(stream->text, "\r\ntransfer-encoding: chunked\r\n") != NULL ? SIZE : UNTIL_CLOSE;
  stream->textLength = 0;
}

// A stream that has ended gives its connection back: codex lets others wait for it.
static void done(Stream *stream) {
  epoll_ctl(poller, EPOLL_CTL_DEL, stream->fd, NULL);
  shutdown(stream->fd, SHUT_RDWR);
  if (stream->events != eventCount || stream->eventLength != 0) blame(stream, "the answer ended too early");
  stream->state = DONE;
  running--;
}

static void take(Stream *stream, const char *bytes, size_t length, int64_t arrivedNs) {
  for (size_t at = 0; at < length && problem[0] == 0;) {
    if (stream->state == UNTIL_CLOSE) return takeBody(stream, bytes + at, length - at, arrivedNs);
    if (stream->state == DONE) return blame(stream, "something follows the last chunk");
    if (stream->state == CHUNK) {
      const size_t piece = length - at < stream->chunkLeft ? length - at : (size_t)stream->chunkLeft;
      takeBody(stream, bytes + at, piece, arrivedNs);
      at += piece;
      stream->chunkLeft -= piece;
      if (stream->chunkLeft == 0) stream->state = AFTER_CHUNK;
      continue;
    }
    if (stream->textLength == maxHeadBytes) return blame(stream, "a line or a head without end");
    stream->text[stream->textLength++] = bytes[at++];
    stream->text[stream->textLength] = 0;
    if (stream->text[stream->textLength - 1] != '\n') continue;
    if (stream->state == HEAD) {
      if (stream->textLength >= 4 && strcmp(stream->text + stream->textLength - 4, "\r\n\r\n") == 0) takeHead(stream);
      continue;
    }
    if (stream->state == SIZE) {
      stream->chunkLeft = strtoull(stream->text, NULL, 16);
      stream->state = stream->chunkLeft == 0 ? TRAILER : CHUNK;
    } else if (strcmp(stream->text, "\r\n") != 0) blame(stream, "bad framing");
    else if (stream->state == TRAILER) done(stream);
    else stream->state = SIZE;
    stream->textLength = 0;
  }
}

static void onReady(Stream *stream) {
  static char bytes[readBytes];
  for (;;) {
    ssize_t length;
    if (stream->tls != NULL) {
      ERR_clear_error();
      length = SSL_read(stream->tls, bytes, sizeof bytes);
      if (length <= 0 && SSL_get_error(stream->tls, (int)length) == SSL_ERROR_WANT_READ) return;
    } else {
      length = recv(stream->fd, bytes, sizeof bytes, 0);
      if (length < 0 && errno == EAGAIN) return;
    }
    if (length > 0) take(stream, bytes, (size_t)length, nowNs());
    else if (stream->state == UNTIL_CLOSE) done(stream);
    else blame(stream, "the connection was closed");
    if (problem[0] != 0 || stream->state == DONE) return;
  }
}

static void openStream(unsigned id, unsigned port, const char *token) {
  Stream *stream = calloc(1, sizeof *stream);
  if (stream == NULL) die("load: out of memory");
  streams[id] = stream;
  stream->id = id;
  stream->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  if (stream->fd < 0 || connect(stream->fd, (struct sockaddr *)&address, sizeof address) != 0) die("load: cannot connect");
  const int on = 1;
  setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (context != NULL) {
    stream->tls = SSL_new(context);
    SSL_set_fd(stream->tls, stream->fd);
    if (SSL_connect(stream->tls) != 1) die("load: TLS handshake failed");
  }
  char body[256], request[requestBytes];
  for (size_t at = 0; at < sizeof body; at++) body[at] = (char)bodyByte(at);
  int length = snprintf(request, sizeof request - sizeof body,
    "POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
    "X-Bench: stream %u %lld %lld %u\r\nContent-Length: %zu\r\n", port, id,
    (long long)(start == 0 ? 0 : beginOf(id)), (long long)intervalNs, eventCount, sizeof body);
  if (token != NULL) length += snprintf(request + length, sizeof request - sizeof body - (size_t)length, "Authorization: Bearer %s\r\n", token);
  length += snprintf(request + length, sizeof request - sizeof body - (size_t)length, "\r\n");
  memcpy(request + length, body, sizeof body);
  length += (int)sizeof body;
  stream->requestedNs = nowNs();
  const ssize_t written = stream->tls != NULL ? SSL_write(stream->tls, request, length) : send(stream->fd, request, (size_t)length, MSG_NOSIGNAL);
  if (written != length) die("load: cannot send the request");
  fcntl(stream->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event wish = { .events = EPOLLIN, .data.ptr = stream };
  epoll_ctl(poller, EPOLL_CTL_ADD, stream->fd, &wish);
}

// Handles what arrives until the given time, at the latest when every stream has ended or one went wrong.
static void readUntil(int64_t untilNs) {
  while (running > 0 && problem[0] == 0) {
    const int64_t leftNs = untilNs - nowNs();
    if (leftNs <= 0) return;
    struct epoll_event events[64];
    const struct timespec left = { .tv_sec = leftNs / 1000000000, .tv_nsec = leftNs % 1000000000 };
    const int ready = epoll_pwait2(poller, events, 64, &left, NULL);
    for (int i = 0; i < ready; i++) onReady(events[i].data.ptr);
  }
}

static int ascending(const void *left, const void *right) {
  const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
  return a < b ? -1 : a > b;
}

static double quantileMs(int64_t *values, size_t count, double part) {
  if (count == 0) return 0;
  qsort(values, count, sizeof *values, ascending);
  return (double)values[(size_t)((double)(count - 1) * part)] / 1e6;
}

static void say(const char *word) {
  puts(word);
  fflush(stdout);
}

int main(int count, char **arguments) {
  if (count < 7) die("usage: load PORT tls|plain STREAMS EVENTS INTERVAL_US STREAMS_PER_SECOND [TOKEN]");
  const unsigned port = (unsigned)atoi(arguments[1]);
  const bool isTls = strcmp(arguments[2], "tls") == 0;
  streamCount = (unsigned)atoi(arguments[3]);
  eventCount = (unsigned)atoi(arguments[4]);
  intervalNs = atoll(arguments[5]) * 1000;
  const int64_t pace = atoll(arguments[6]);
  const char *token = count > 7 ? arguments[7] : NULL;
  if (streamCount == 0 || streamCount > maxStreams || eventCount == 0 || intervalNs <= 0) die("load: bad numbers");

  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_TIMERSLACK, 1);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (isTls) {
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_ctrl(context, SSL_CTRL_MODE, SSL_MODES, NULL);
  }
  delays = calloc((size_t)streamCount * eventCount, sizeof *delays);
  lags = calloc((size_t)streamCount * eventCount, sizeof *lags);
  firsts = calloc(streamCount, sizeof *firsts);
  if (delays == NULL || lags == NULL || firsts == NULL) die("load: out of memory");
  poller = epoll_create1(EPOLL_CLOEXEC);
  running = streamCount;

  const int64_t openedFrom = nowNs();
  if (pace > 0) start = openedFrom + streamCount * 1000000000LL / pace + settleNs;
  for (unsigned id = 0; id < streamCount; id++) {
    openStream(id, port, token);
    if (pace > 0) readUntil(openedFrom + (id + 1) * 1000000000LL / pace);
  }
  const int64_t openedAt = nowNs();
  const int64_t ends = (start > 0 ? start : openedAt) + intervalNs * (eventCount + 1);
  if (pace > 0) {
    if (openedAt > start) {
      fputs("the streams could not be opened at this pace\n", stderr);
      return tooSlow;
    }
    readUntil(start - marginNs);
    say("begin");
    readUntil(ends + marginNs);
    say("end");
  }
  readUntil(ends + patienceNs);
  if (running > 0 && problem[0] == 0) snprintf(problem, sizeof problem, "%u streams did not end in time", running);
  if (problem[0] != 0) {
    fprintf(stderr, "%s\n", problem);
    return 1;
  }
  printf("{\"events\":%zu,\"p50Ms\":%.4f,\"p99Ms\":%.4f,\"maxMs\":%.4f,\"upstreamLateP99Ms\":%.4f,\"firstEventMs\":%.4f,\"lateStreams\":%u}\n", delayCount,
    quantileMs(delays, delayCount, 0.5), quantileMs(delays, delayCount, 0.99), quantileMs(delays, delayCount, 1),
    quantileMs(lags, delayCount, 0.99), quantileMs(firsts, firstCount, 0.5), lateStreams);
  return 0;
}
