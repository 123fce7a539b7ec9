/* The bridge to JavaScript: converts arguments, results and errors, and does nothing else. */
#define NAPI_VERSION 8
#include <node_api.h>

#include "native.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The longest text that is taken, with its end. A longer one is cut, and then names no account. */
enum { MAX_ARGUMENTS = 2, MAX_TEXT_BYTES = sizeof ((struct account *)NULL)->name };

/* Making a value cannot fail: no exception is pending, and V8 ends the process where it has no memory. */
static napi_value number(napi_env env, double of) {
  napi_value value = NULL;
  napi_create_double(env, of, &value);
  return value;
}

static napi_value text(napi_env env, const char *of) {
  napi_value value = NULL;
  napi_create_string_utf8(env, of, NAPI_AUTO_LENGTH, &value);
  return value;
}

static napi_value boolean(napi_env env, bool of) {
  napi_value value = NULL;
  napi_get_boolean(env, of, &value);
  return value;
}

/* Throws an Error with errno, negative as in node:fs. */
static napi_value throw_errno(napi_env env, const char *message) {
  napi_value error = NULL, error_number = number(env, -errno);
  napi_create_error(env, NULL, text(env, message), &error);
  napi_set_named_property(env, error, "errno", error_number);
  napi_throw(env, error);
  return NULL;
}

/* Reads the arguments: `i` is an int, `b` a bool, `s` a char[MAX_TEXT_BYTES]. Throws if they are others. */
static bool read_arguments(napi_env env, napi_callback_info info, const char *kinds, ...) {
  size_t count = MAX_ARGUMENTS;
  napi_value values[MAX_ARGUMENTS];
  napi_status status = napi_get_cb_info(env, info, &count, values, NULL, NULL);
  va_list targets;
  va_start(targets, kinds);
  for (size_t i = 0; kinds[i] != '\0' && status == napi_ok; i++) {
    if (kinds[i] == 'i') status = napi_get_value_int32(env, values[i], va_arg(targets, int32_t *));
    else if (kinds[i] == 'b') status = napi_get_value_bool(env, values[i], va_arg(targets, bool *));
    else status = napi_get_value_string_utf8(env, values[i], va_arg(targets, char *), MAX_TEXT_BYTES, NULL);
  }
  va_end(targets);
  if (status != napi_ok) napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "invalid argument");
  return status == napi_ok;
}

/* allocate(bytes: number, isWaived: boolean): { buffer: Buffer, kind: string } */
static napi_value allocate(napi_env env, napi_callback_info info) {
  int32_t bytes;
  bool waived;
  if (!read_arguments(env, info, "ib", &bytes, &waived)) return NULL;
  struct area area;
  if (!allocate_locked((size_t)bytes, waived, &area)) {
    char reasons[128];
    int length = snprintf(reasons, sizeof reasons, "memfd_secret: %s", strerror(area.secret_error));
    snprintf(reasons + length, sizeof reasons - (size_t)length, ", mlock: %s", strerror(area.lock_error));
    napi_throw_error(env, NULL, reasons);
    return NULL;
  }
  napi_value buffer, result = NULL;
  /* No finalizer: sockets hold bare pointers into the area while they write, so it must outlive every Buffer over it.
     The kernel frees it when the process ends, and clears the pages before another process gets them. */
  if (napi_create_external_buffer(env, (size_t)bytes, area.data, NULL, NULL, &buffer) != napi_ok) {
    errno = ENOMEM;
    return throw_errno(env, "this node takes no memory of others");
  }
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "buffer", buffer);
  napi_set_named_property(env, result, "kind", text(env, area.kind));
  return result;
}

/* harden(): void */
static napi_value harden_process(napi_env env, napi_callback_info info) {
  (void)info;
  const char *what = harden();
  return what == NULL ? NULL : throw_errno(env, what);
}

/* isStartedByStarter(): boolean */
static napi_value ask_for_starter(napi_env env, napi_callback_info info) {
  (void)info;
  return boolean(env, is_started_by_starter());
}

/* forbidStartCalls(opensLogs: boolean, removesFile: boolean): void */
static napi_value enter_serving(napi_env env, napi_callback_info info) {
  bool opens_logs, removes_file;
  if (!read_arguments(env, info, "bb", &opens_logs, &removes_file)) return NULL;
  return forbid_start_calls(opens_logs, removes_file) ? NULL : throw_errno(env, "seccomp");
}

/* peerUid(socket: number): number | undefined */
static napi_value peer_uid(napi_env env, napi_callback_info info) {
  int32_t socket;
  uint32_t uid;
  if (!read_arguments(env, info, "i", &socket)) return NULL;
  int found = find_peer(socket, &uid);
  if (found < 0) return throw_errno(env, "sock_diag");
  return found == 0 ? NULL : number(env, uid);
}

/* account(nameOrUid: string): { name: string, uid: number, gid: number } | undefined */
static napi_value account(napi_env env, napi_callback_info info) {
  char name_or_uid[MAX_TEXT_BYTES];
  struct account found;
  napi_value result = NULL;
  if (!read_arguments(env, info, "s", name_or_uid) || !find_account(name_or_uid, &found)) return NULL;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "name", text(env, found.name));
  napi_set_named_property(env, result, "uid", number(env, found.uid));
  napi_set_named_property(env, result, "gid", number(env, found.gid));
  return result;
}

/* Any function of one number that gives one, or -1: it is the data of what JavaScript calls. */
static napi_value call_with_number(napi_env env, napi_callback_info info) {
  int32_t argument;
  void *function;
  if (!read_arguments(env, info, "i", &argument)) return NULL;
  napi_get_cb_info(env, info, NULL, NULL, NULL, &function);
  int result = ((int (*)(int))function)(argument);
  return result < 0 ? throw_errno(env, "the call failed") : number(env, result);
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback call;
    int (*function)(int);
  } functions[] = {
    {"allocate", allocate, NULL}, {"harden", harden_process, NULL}, {"isStartedByStarter", ask_for_starter, NULL},
    {"forbidStartCalls", enter_serving, NULL}, {"peerUid", peer_uid, NULL}, {"account", account, NULL},
    {"lockFile", call_with_number, lock_file}, {"pollEnds", call_with_number, poll_ends}, {"unacknowledgedBytes", call_with_number, unacknowledged_bytes},
    {"resetOnClose", call_with_number, reset_on_close}, {"holdPort", call_with_number, hold_port},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_property_descriptor property = {
      .utf8name = functions[i].name, .method = functions[i].call, .attributes = napi_enumerable, .data = (void *)functions[i].function,
    };
    if (napi_define_properties(env, exports, 1, &property) != napi_ok) return NULL;
  }
  return exports;
}
