/* touch(buffer, offset): writes one byte that far from the buffer's first, in bounds or not. */
#define NAPI_VERSION 8
#include <node_api.h>

static napi_value touch(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  void *data;
  int64_t offset;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok ||
      napi_get_buffer_info(env, arguments[0], &data, NULL) != napi_ok ||
      napi_get_value_int64(env, arguments[1], &offset) != napi_ok) {
    napi_throw_type_error(env, NULL, "touch(buffer, offset)");
    return NULL;
  }
  ((volatile unsigned char *)data)[offset] = 1;
  return NULL;
}

NAPI_MODULE_INIT() {
  napi_value function;
  if (napi_create_function(env, "touch", NAPI_AUTO_LENGTH, touch, NULL, &function) != napi_ok) return NULL;
  return napi_set_named_property(env, exports, "touch", function) == napi_ok ? exports : NULL;
}
