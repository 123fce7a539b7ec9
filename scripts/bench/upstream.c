// The bench's upstream, with what no other server does: events on time, bodies that are compared byte by byte, uploads
// at a given speed. It answers when the whole body is there, as the real one does; nginx would answer before, and undici
// gives such a connection up. One thread, epoll, TLS. Prints its port once it listens.
//
//   upstream CERTIFICATE KEY TOKEN CODEX_REQUEST CODEX_ANSWER
//
// A request says in X-Bench what it wants:
//
//   stream ID START INTERVAL EVENTS   events of the stream ID, at START + INTERVAL * n by the monotonic clock in ns (START 0: now)
//   receive RATE                      takes the body at RATE bytes per second (0: as fast as it can)
//   send LENGTH                       LENGTH bytes
//   codex                             the body is the file CODEX_REQUEST; the events in the file CODEX_ANSWER, each in a chunk of its own
//   (no X-Bench)                      takes the body and says how long it was
//
// Every request must carry `Authorization: Bearer TOKEN` and, but for `codex`, a body as `bodyByte` has it; otherwise the
// answer says what is wrong.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tls.h"
#include "wire.h"

enum { maxHeadBytes = 16384, readBytes = 131072, pieceBytes = 65536, maxConnections = 16384 };

// The streams stay open after their last event, so that the client can look at what they cost while they are all there.
static const int64_t holdNs = 400000000;

enum State { HANDSHAKE, HEAD, BODY, STREAM, SEND };

typedef struct Connection {
  int fd;
  SSL *tls;
  enum State state;
  char head[maxHeadBytes + 1];
  size_t headLength;
  uint64_t bodyLength, bodyRead;
  bool bodyRight, isCodex;
  // What waits to be written.
  char *out;
  size_t outLength, outCapacity;
  uint64_t sendLength, sent;
  unsigned stream, nextEvent, events;
  int64_t start, interval;
  int64_t rate, bodyStart;
  // When something has to happen without being asked, and the place in the queue of such connections; 0 for none.
  int64_t due;
  size_t place;
} Connection;

static SSL_CTX *context;
static int poller, timer;
static char authorization[8192];
static unsigned char body[bodyPeriod * 4];
static struct { char *bytes; size_t length; } codexRequest, codexAnswer;
static unsigned char received[readBytes];
// Not more than half a KB: from 1 KB on codex writes an answer in two pieces, and the second waits 40 ms for the first (Nagle).
static char output[64 * 6 + 1];

// ---- what is due, soonest first: a heap, counted from 1 ----

static Connection *queue[maxConnections + 1];
static size_t queued;

static void put(Connection *connection, size_t place) {
  queue[place] = connection;
  connection->place = place;
}

static void settle(Connection *connection, size_t place) {
  for (; place > 1 && queue[place / 2]->due > connection->due; place /= 2) put(queue[place / 2], place);
  for (;;) {
    size_t child = place * 2;
    if (child > queued) break;
    if (child < queued && queue[child + 1]->due < queue[child]->due) child++;
    if (queue[child]->due >= connection->due) break;
    put(queue[child], place);
    place = child;
  }
  put(connection, place);
}

static void unschedule(Connection *connection) {
  const size_t place = connection->place;
  if (place == 0) return;
  Connection *last = queue[queued--];
  connection->place = 0;
  if (last != connection) settle(last, place);
}

static void schedule(Connection *connection, int64_t due) {
  connection->due = due;
  if (connection->place == 0) {
    if (queued == maxConnections) die("too many connections");
    connection->place = ++queued;
  }
  settle(connection, connection->place);
}

// ---- writing ----

static void closeConnection(Connection *connection) {
  unschedule(connection);
  SSL_free(connection->tls);
  close(connection->fd);
  free(connection->out);
  free(connection);
}

static void append(Connection *connection, const void *bytes, size_t length) {
  if (connection->outLength + length > connection->outCapacity) {
    connection->outCapacity = (connection->outLength + length) * 2;
    connection->out = realloc(connection->out, connection->outCapacity);
    if (connection->out == NULL) die("out of memory");
  }
  memcpy(connection->out + connection->outLength, bytes, length);
  connection->outLength += length;
}

// Writes what waits. Returns whether all of it is out; a connection that broke will be noticed when it is read.
static bool flush(Connection *connection) {
  size_t written = 0;
  while (written < connection->outLength) {
    ERR_clear_error();
    const int result = SSL_write(connection->tls, connection->out + written, (int)(connection->outLength - written));
    if (result <= 0) break;
    written += (size_t)result;
  }
  memmove(connection->out, connection->out + written, connection->outLength - written);
  connection->outLength -= written;
  return connection->outLength == 0;
}

static const char eventsHead[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

static void answer(Connection *connection, const char *status, const char *text) {
  char head[1024];
  const int length = snprintf(head, sizeof head,
    "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(text), text);
  append(connection, head, (size_t)length);
  flush(connection);
  connection->state = HEAD;
}

static void answerCodex(Connection *connection) {
  append(connection, eventsHead, sizeof eventsHead - 1);
  for (const char *event = codexAnswer.bytes; *event != 0;) {
    const char *end = strstr(event, "\n\n");
    if (end == NULL) die("upstream: an event without end");
    const size_t length = (size_t)(end + 2 - event);
    char size[24];
    append(connection, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", length));
    append(connection, event, length);
    append(connection, "\r\n", 2);
    event += length;
  }
  append(connection, "0\r\n\r\n", 5);
  flush(connection);
  connection->state = HEAD;
}

static void sendPieces(Connection *connection) {
  while (flush(connection)) {
    const uint64_t left = connection->sendLength - connection->sent;
    if (left == 0) {
      connection->state = HEAD;
      return;
    }
    const size_t length = left < pieceBytes ? (size_t)left : pieceBytes;
    append(connection, body + connection->sent % bodyPeriod, length);
    connection->sent += length;
  }
}

static void sendEvent(Connection *connection) {
  if (connection->nextEvent == connection->events) {
    append(connection, "0\r\n\r\n", 5);
    flush(connection);
    connection->state = HEAD;
    unschedule(connection);
    return;
  }
  char event[maxEventBytes], chunk[maxEventBytes + 16];
  writeEvent(event, connection->stream, connection->nextEvent, nowNs());
  const int length = snprintf(chunk, sizeof chunk, "%zx\r\n%s\r\n", strlen(event), event);
  append(connection, chunk, (size_t)length);
  flush(connection);
  connection->nextEvent++;
  const int64_t next = connection->start + connection->interval * connection->nextEvent;
  schedule(connection, connection->nextEvent == connection->events ? next + holdNs : next);
}

// ---- reading ----

static const char *field(const Connection *connection, const char *name) {
  for (const char *line = strstr(connection->head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
    line += 2;
    if (strncasecmp(line, name, strlen(name)) != 0 || line[strlen(name)] != ':') continue;
    const char *value = line + strlen(name) + 1;
    return value + strspn(value, " ");
  }
  return NULL;
}

static void bodyIsComplete(Connection *connection) {
  unschedule(connection);
  const char *wish = field(connection, "x-bench");
  unsigned long long length;
  long long start, interval;
  if (!connection->bodyRight) {
    answer(connection, "400 Bad Request", "{\"error\":\"the body is not as it was sent\"}");
  } else if (connection->isCodex) {
    answerCodex(connection);
  } else if (wish != NULL && sscanf(wish, "stream %u %lld %lld %u", &connection->stream, &start, &interval, &connection->events) == 4) {
    append(connection, eventsHead, sizeof eventsHead - 1);
    connection->state = STREAM;
    connection->nextEvent = 0;
    connection->interval = interval;
    connection->start = start == 0 ? nowNs() : start;
    if (start == 0) sendEvent(connection);
    else {
      flush(connection);
      schedule(connection, start);
    }
  } else if (wish != NULL && sscanf(wish, "send %llu", &length) == 1) {
    char head[256];
    const int headLength = snprintf(head, sizeof head,
      "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n", length);
    append(connection, head, (size_t)headLength);
    connection->state = SEND;
    connection->sendLength = length;
    connection->sent = 0;
    sendPieces(connection);
  } else {
    char text[sizeof output + 128];
    snprintf(text, sizeof text, "{\"object\":\"response\",\"received\":%llu,\"output\":\"%s\"}", (unsigned long long)connection->bodyRead, output);
    answer(connection, "200 OK", text);
  }
}

static void takeBody(Connection *connection, const unsigned char *bytes, size_t length) {
  const uint64_t left = connection->bodyLength - connection->bodyRead;
  if (length > left) connection->bodyRight = false; // pipelined, or too much
  if (connection->isCodex && connection->bodyRight) {
    if (memcmp(bytes, codexRequest.bytes + connection->bodyRead, length) != 0) connection->bodyRight = false;
    connection->bodyRead += length;
    length = 0;
  }
  for (size_t done = 0; done < length && connection->bodyRight;) {
    const size_t piece = length - done < bodyPeriod ? length - done : bodyPeriod;
    if (memcmp(bytes + done, body + connection->bodyRead % bodyPeriod, piece) != 0) connection->bodyRight = false;
    connection->bodyRead += piece;
    done += piece;
  }
  if (!connection->bodyRight || connection->bodyRead == connection->bodyLength) bodyIsComplete(connection);
}

static void takeHead(Connection *connection, const unsigned char *bytes, size_t length) {
  if (connection->headLength + length > maxHeadBytes) length = maxHeadBytes - connection->headLength;
  memcpy(connection->head + connection->headLength, bytes, length);
  connection->headLength += length;
  connection->head[connection->headLength] = 0;
  char *end = strstr(connection->head, "\r\n\r\n");
  if (end == NULL) {
    if (connection->headLength == maxHeadBytes) die("a head without end");
    return;
  }
  end += 4;
  const size_t surplus = (size_t)(connection->head + connection->headLength - end);
  unsigned char begun[maxHeadBytes];
  memcpy(begun, end, surplus);
  *end = 0;
  connection->headLength = 0;
  const char *given = field(connection, "authorization"), *bodyLength = field(connection, "content-length");
  const char *wish = field(connection, "x-bench");
  if (strncmp(connection->head, "POST /v1/responses HTTP/1.1\r\n", 29) != 0) return answer(connection, "404 Not Found", "{}");
  if (given == NULL || strncmp(given, authorization, strlen(authorization)) != 0) return answer(connection, "401 Unauthorized", "{}");
  if (bodyLength == NULL) return answer(connection, "411 Length Required", "{}");
  connection->bodyLength = strtoull(bodyLength, NULL, 10);
  connection->bodyRead = 0;
  connection->bodyRight = true;
  connection->state = BODY;
  connection->rate = 0;
  connection->isCodex = wish != NULL && strncmp(wish, "codex\r\n", 7) == 0;
  if (connection->isCodex && connection->bodyLength != codexRequest.length) connection->bodyRight = false;
  if (wish != NULL) sscanf(wish, "receive %" SCNd64, &connection->rate);
  connection->bodyStart = nowNs();
  takeBody(connection, begun, surplus);
}

static void listenFor(Connection *connection) {
  const bool wantsMore = connection->state != BODY || connection->place == 0;
  struct epoll_event wish = { .events = (wantsMore ? EPOLLIN : 0) | (connection->outLength > 0 ? EPOLLOUT : 0), .data.ptr = connection };
  epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &wish);
}

// Puts an upload off until its rate allows for what it has sent.
static bool isTooFast(Connection *connection) {
  if (connection->state != BODY || connection->rate == 0) return false;
  const int64_t allowedAt = connection->bodyStart + (int64_t)((double)connection->bodyRead / (double)connection->rate * 1e9);
  if (allowedAt - nowNs() < 1000000) return false;
  schedule(connection, allowedAt);
  return true;
}

static void onReady(Connection *connection) {
  if (connection->state == HANDSHAKE) {
    ERR_clear_error();
    const int result = SSL_accept(connection->tls);
    if (result != 1) {
      const int error = SSL_get_error(connection->tls, result);
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) closeConnection(connection);
      return;
    }
    connection->state = HEAD;
  }
  if (connection->state == SEND) sendPieces(connection);
  else flush(connection);
  while (!isTooFast(connection)) {
    ERR_clear_error();
    const int result = SSL_read(connection->tls, received, sizeof received);
    if (result <= 0) {
      const int error = SSL_get_error(connection->tls, result);
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return closeConnection(connection);
      break;
    }
    if (connection->state == BODY) takeBody(connection, received, (size_t)result);
    else if (connection->state == HEAD) takeHead(connection, received, (size_t)result);
    else return closeConnection(connection); // nothing may come while an answer is under way
  }
  listenFor(connection);
}

static void onDue(void) {
  while (queued > 0 && queue[1]->due <= nowNs()) {
    Connection *connection = queue[1];
    if (connection->state == STREAM) sendEvent(connection);
    else {
      unschedule(connection);
      onReady(connection);
      continue;
    }
    if (connection->outLength > 0) listenFor(connection);
  }
  struct itimerspec wake = { 0 };
  if (queued > 0) {
    wake.it_value.tv_sec = queue[1]->due / 1000000000;
    wake.it_value.tv_nsec = queue[1]->due % 1000000000;
  }
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &wake, NULL);
}

static void onConnection(int listener) {
  for (;;) {
    const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) die("out of memory");
    connection->fd = fd;
    connection->tls = SSL_new(context);
    SSL_set_fd(connection->tls, fd);
    struct epoll_event wish = { .events = EPOLLIN, .data.ptr = connection };
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wish);
  }
}

static void readFile(const char *path, char **bytes, size_t *length) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) die("upstream: cannot read a file");
  *length = (size_t)ftell(file);
  *bytes = calloc(1, *length + 1);
  rewind(file);
  if (*bytes == NULL || fread(*bytes, 1, *length, file) != *length) die("upstream: cannot read a file");
  fclose(file);
}

int main(int count, char **arguments) {
  if (count != 6) die("usage: upstream CERTIFICATE KEY TOKEN CODEX_REQUEST CODEX_ANSWER");
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_TIMERSLACK, 1);
  snprintf(authorization, sizeof authorization, "Bearer %s\r\n", arguments[3]);
  for (size_t at = 0; at < sizeof body; at++) body[at] = bodyByte(at);
  for (int word = 0; word < 64; word++) strcat(output, "token ");
  readFile(arguments[4], &codexRequest.bytes, &codexRequest.length);
  readFile(arguments[5], &codexAnswer.bytes, &codexAnswer.length);

  context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_ctrl(context, SSL_CTRL_MODE, SSL_MODES, NULL);
  if (SSL_CTX_use_certificate_chain_file(context, arguments[1]) != 1) die("upstream: cannot use the certificate");
  if (SSL_CTX_use_PrivateKey_file(context, arguments[2], SSL_FILETYPE_PEM) != 1) die("upstream: cannot use the key");

  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  socklen_t length = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) die("upstream: cannot listen");
  getsockname(listener, (struct sockaddr *)&address, &length);
  poller = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct epoll_event atListener = { .events = EPOLLIN, .data.ptr = &context }, atTimer = { .events = EPOLLIN, .data.ptr = &timer };
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &atListener);
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &atTimer);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);

  for (;;) {
    struct epoll_event events[64];
    const int ready = epoll_wait(poller, events, 64, -1);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.ptr == &context) onConnection(listener);
      else if (events[i].data.ptr != &timer) onReady(events[i].data.ptr);
    }
    onDue();
  }
}
