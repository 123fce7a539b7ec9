/* The bridge to JavaScript: converts arguments, results and errors, and does nothing else. */
#define NAPI_VERSION 8
#include <node_api.h>

#include "native.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { MAX_AREA_BYTES = 1 << 30 };

/* When a Node-API call fails, an exception is pending: Node's own, or else a TypeError about the argument. */
#define TRY(call)                                   \
  do {                                              \
    if ((call) != napi_ok) return throw_napi(env);  \
  } while (0)

static napi_value throw_napi(napi_env env) {
  const napi_extended_error_info *info;
  bool pending = true;
  napi_get_last_error_info(env, &info);
  const char *message = info->error_message != NULL ? info->error_message : "invalid argument";
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
  return NULL;
}

static napi_value set_string(napi_env env, napi_value object, const char *name, const char *text) {
  napi_value value;
  TRY(napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value));
  TRY(napi_set_named_property(env, object, name, value));
  return object;
}

/* Throws an Error with the errno (negative, as in node:fs) and the system call. */
static napi_value throw_failure(napi_env env, struct failure failure) {
  napi_value message, error, number;
  TRY(napi_create_string_utf8(env, strerror(failure.error), NAPI_AUTO_LENGTH, &message));
  TRY(napi_create_error(env, NULL, message, &error));
  TRY(napi_create_int32(env, -failure.error, &number));
  TRY(napi_set_named_property(env, error, "errno", number));
  if (set_string(env, error, "syscall", failure.syscall) != NULL) napi_throw(env, error);
  return NULL;
}

static napi_value throw_unlockable(napi_env env, const struct lock_failures *failures) {
  char reasons[128];
  snprintf(reasons, sizeof reasons, "%s: %s, %s: %s",
           failures->memfd_secret.syscall, strerror(failures->memfd_secret.error),
           failures->mlock.syscall, strerror(failures->mlock.error));
  napi_throw_error(env, NULL, reasons);
  return NULL;
}

static const char *kind_of(enum protection protection) {
  switch (protection) {
    case MEMFD_SECRET: return "memfd_secret";
    case MLOCK: return "mlock";
    case UNLOCKED: break;
  }
  return "unlocked";
}

/* allocate(bytes: number, locking: 'required' | 'waived'): { buffer: Buffer, kind: string } */
static napi_value allocate(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  int64_t bytes;
  char locking[16];
  TRY(napi_get_cb_info(env, info, &count, arguments, NULL, NULL));
  TRY(napi_get_value_int64(env, arguments[0], &bytes));
  TRY(napi_get_value_string_utf8(env, arguments[1], locking, sizeof locking, NULL));
  bool waived = strcmp(locking, "waived") == 0;
  if (!waived && strcmp(locking, "required") != 0) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "locking is 'required' or 'waived'");
    return NULL;
  }
  if (bytes < 1 || bytes > MAX_AREA_BYTES) {
    napi_throw_range_error(env, "ERR_OUT_OF_RANGE", "bytes is 1 to 1 GiB");
    return NULL;
  }

  struct area area;
  struct lock_failures failures;
  if (!allocate_locked((size_t)bytes, waived, &area, &failures)) return throw_unlockable(env, &failures);

  napi_value buffer, result;
  /* No finalizer: sockets hold bare pointers into the area while they write, so it must outlive every Buffer over it.
     The kernel frees it when the process ends, and clears the pages before another process gets them. */
  TRY(napi_create_external_buffer(env, (size_t)bytes, area.data, NULL, NULL, &buffer));
  TRY(napi_create_object(env, &result));
  TRY(napi_set_named_property(env, result, "buffer", buffer));
  return set_string(env, result, "kind", kind_of(area.protection));
}

/* wipe(bytes: Uint8Array): void */
static napi_value wipe(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  void *data;
  size_t length;
  TRY(napi_get_cb_info(env, info, &count, &argument, NULL, NULL));
  TRY(napi_get_typedarray_info(env, argument, NULL, &length, &data, NULL, NULL));
  explicit_bzero(data, length);
  return NULL;
}

static napi_value done(napi_env env, struct failure failure) {
  return failure.error == 0 ? NULL : throw_failure(env, failure);
}

static napi_value boolean(napi_env env, bool value) {
  napi_value result;
  TRY(napi_get_boolean(env, value, &result));
  return result;
}

/* Reads the one argument of a function that takes a descriptor. */
static bool read_descriptor(napi_env env, napi_callback_info info, int *descriptor) {
  size_t count = 1;
  napi_value argument;
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) == napi_ok && napi_get_value_int32(env, argument, descriptor) == napi_ok) return true;
  throw_napi(env);
  return false;
}

static napi_value forbidTracing(napi_env env, napi_callback_info info) {
  (void)info;
  return done(env, forbid_tracing());
}

static napi_value forbidCoreDumps(napi_env env, napi_callback_info info) {
  (void)info;
  return done(env, forbid_core_dumps());
}

static napi_value forbidNewPrivileges(napi_env env, napi_callback_info info) {
  (void)info;
  return done(env, forbid_new_privileges());
}

static napi_value isStartedByStarter(napi_env env, napi_callback_info info) {
  (void)info;
  return boolean(env, is_started_by_starter());
}

/* forbidStartCalls(opensLogs: boolean): void */
static napi_value forbidStartCalls(napi_env env, napi_callback_info info) {
  size_t count = 1;
  bool opens_logs;
  napi_value argument;
  TRY(napi_get_cb_info(env, info, &count, &argument, NULL, NULL));
  TRY(napi_get_value_bool(env, argument, &opens_logs));
  return done(env, forbid_start_calls(opens_logs));
}

static napi_value read_endpoint(napi_env env, const napi_value arguments[2], struct sockaddr_in *endpoint) {
  char address[INET_ADDRSTRLEN + 1]; /* one more, so that a longer text is not cut into a valid address */
  uint32_t port;
  TRY(napi_get_value_string_utf8(env, arguments[0], address, sizeof address, NULL));
  TRY(napi_get_value_uint32(env, arguments[1], &port));
  *endpoint = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, address, &endpoint->sin_addr) == 1 && port >= 1 && port <= 65535) return arguments[0];
  napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "an end of a connection is an IPv4 address and a port");
  return NULL;
}

/* peerUid(localAddress, localPort, remoteAddress, remotePort): number | undefined */
static napi_value peerUid(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4], uid;
  struct connection connection;
  TRY(napi_get_cb_info(env, info, &count, arguments, NULL, NULL));
  if (read_endpoint(env, arguments, &connection.local) == NULL) return NULL;
  if (read_endpoint(env, arguments + 2, &connection.remote) == NULL) return NULL;

  struct owner owner;
  struct failure failure = find_peer(&connection, &owner);
  if (failure.error != 0) return throw_failure(env, failure);
  if (!owner.known) return NULL;
  TRY(napi_create_uint32(env, owner.uid, &uid));
  return uid;
}

/* hasHungUp(socket: number): boolean */
static napi_value hasHungUp(napi_env env, napi_callback_info info) {
  int socket;
  return read_descriptor(env, info, &socket) ? boolean(env, has_hung_up(socket)) : NULL;
}

/* wasReset(socket: number): boolean */
static napi_value wasReset(napi_env env, napi_callback_info info) {
  int socket;
  return read_descriptor(env, info, &socket) ? boolean(env, was_reset(socket)) : NULL;
}

/* unacknowledgedBytes(socket: number): number */
static napi_value unacknowledgedBytes(napi_env env, napi_callback_info info) {
  int socket, bytes;
  napi_value result;
  if (!read_descriptor(env, info, &socket)) return NULL;
  struct failure failure = unacknowledged_bytes(socket, &bytes);
  if (failure.error != 0) return throw_failure(env, failure);
  TRY(napi_create_int32(env, bytes, &result));
  return result;
}

/* resetOnClose(socket: number): void */
static napi_value resetOnClose(napi_env env, napi_callback_info info) {
  int socket;
  return read_descriptor(env, info, &socket) ? done(env, reset_on_close(socket)) : NULL;
}

/* lockFile(file: number): boolean */
static napi_value lockFile(napi_env env, napi_callback_info info) {
  int file;
  bool locked;
  if (!read_descriptor(env, info, &file)) return NULL;
  struct failure failure = lock_file(file, &locked);
  return failure.error == 0 ? boolean(env, locked) : throw_failure(env, failure);
}

/* unlinkAt(folder: number, name: string): void */
static napi_value unlinkAt(napi_env env, napi_callback_info info) {
  size_t count = 2;
  int32_t folder;
  napi_value arguments[2];
  char name[NAME_MAX + 2]; /* one more than a name can have: a longer one is refused, not cut into another name */
  TRY(napi_get_cb_info(env, info, &count, arguments, NULL, NULL));
  TRY(napi_get_value_int32(env, arguments[0], &folder));
  TRY(napi_get_value_string_utf8(env, arguments[1], name, sizeof name, NULL));
  return done(env, unlink_at(folder, name));
}

static napi_value set_number(napi_env env, napi_value object, const char *name, uint32_t number) {
  napi_value value;
  TRY(napi_create_uint32(env, number, &value));
  TRY(napi_set_named_property(env, object, name, value));
  return object;
}

/* account(nameOrUid: string): { name: string, uid: number, gid: number } | undefined */
static napi_value account(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  char name_or_uid[256]; /* a longer name is cut, and then matches nothing: `struct account` has no room for it either */
  TRY(napi_get_cb_info(env, info, &count, &argument, NULL, NULL));
  TRY(napi_get_value_string_utf8(env, argument, name_or_uid, sizeof name_or_uid, NULL));

  struct account found;
  if (!find_account(name_or_uid, &found)) return NULL;
  TRY(napi_create_object(env, &result));
  if (set_string(env, result, "name", found.name) == NULL) return NULL;
  if (set_number(env, result, "uid", found.uid) == NULL) return NULL;
  return set_number(env, result, "gid", found.gid);
}

/* inspectSocket(descriptor: number): { family, type, protocol, isListening, address, port } */
static napi_value inspectSocket(napi_env env, napi_callback_info info) {
  int descriptor;
  napi_value result, listening;
  if (!read_descriptor(env, info, &descriptor)) return NULL;
  struct socket_facts facts;
  struct failure failure = inspect_socket(descriptor, &facts);
  if (failure.error != 0) return throw_failure(env, failure);
  TRY(napi_create_object(env, &result));
  if (set_number(env, result, "family", (uint32_t)facts.family) == NULL) return NULL;
  if (set_number(env, result, "type", (uint32_t)facts.type) == NULL) return NULL;
  if (set_number(env, result, "protocol", (uint32_t)facts.protocol) == NULL) return NULL;
  if (set_number(env, result, "port", facts.port) == NULL) return NULL;
  TRY(napi_get_boolean(env, facts.listening != 0, &listening));
  TRY(napi_set_named_property(env, result, "isListening", listening));
  return set_string(env, result, "address", facts.address);
}

/* holdPort(port: number): number */
static napi_value holdPort(napi_env env, napi_callback_info info) {
  size_t count = 1;
  uint32_t port;
  int descriptor;
  napi_value argument, result;
  TRY(napi_get_cb_info(env, info, &count, &argument, NULL, NULL));
  TRY(napi_get_value_uint32(env, argument, &port));
  struct failure failure = hold_port((uint16_t)port, &descriptor);
  if (failure.error != 0) return throw_failure(env, failure);
  TRY(napi_create_int32(env, descriptor, &result));
  return result;
}

NAPI_MODULE_INIT() {
#define METHOD(name) {#name, NULL, name, NULL, NULL, NULL, napi_enumerable, NULL}
  const napi_property_descriptor exported[] = {
    METHOD(allocate),
    METHOD(wipe),
    METHOD(forbidTracing),
    METHOD(forbidCoreDumps),
    METHOD(forbidNewPrivileges),
    METHOD(isStartedByStarter),
    METHOD(forbidStartCalls),
    METHOD(peerUid),
    METHOD(hasHungUp),
    METHOD(wasReset),
    METHOD(unacknowledgedBytes),
    METHOD(resetOnClose),
    METHOD(lockFile),
    METHOD(unlinkAt),
    METHOD(account),
    METHOD(inspectSocket),
    METHOD(holdPort),
  };
#undef METHOD
  TRY(napi_define_properties(env, exports, sizeof exported / sizeof *exported, exported));
  return exports;
}
