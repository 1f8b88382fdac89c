#include "js/addon_data.h"

namespace dmabuf::js {
namespace {

napi_value Text(napi_env env, const char* text) {
  napi_value value = nullptr;
  if (text == nullptr) {
    napi_get_undefined(env, &value);
  } else {
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
  }
  return value;
}

// Throws create_error(...arguments). Does nothing if JavaScript can no longer run because the worker is
// ending.
void ThrowCreated(napi_env env, napi_ref create_error, size_t count, const napi_value* arguments) {
  napi_value function = nullptr;
  napi_value undefined = nullptr;
  napi_value error = nullptr;
  napi_get_reference_value(env, create_error, &function);
  napi_get_undefined(env, &undefined);
  if (napi_call_function(env, undefined, function, count, arguments, &error) == napi_ok) {
    napi_throw(env, error);
  }
}

}  // namespace

void AddonData::Throw(napi_env env, const SystemError& error, const char* path) const {
  napi_value number = nullptr;
  napi_create_int32(env, -error.number, &number);
  const napi_value arguments[] = {number, Text(env, error.call), Text(env, path)};
  ThrowCreated(env, create_error, 3, arguments);
}

void AddonData::Throw(napi_env env, const char* code) const {
  const napi_value argument = Text(env, code);
  ThrowCreated(env, create_error, 1, &argument);
}

void AddonData::AskForClosers(napi_env env) {
  if (awaits_closers || await_closers == nullptr) return;
  // What the call itself throws is passed on.
  napi_value thrown = nullptr;
  bool throws = false;
  napi_is_exception_pending(env, &throws);
  if (throws) napi_get_and_clear_last_exception(env, &thrown);
  napi_value function = nullptr;
  napi_value undefined = nullptr;
  napi_get_reference_value(env, await_closers, &function);
  napi_get_undefined(env, &undefined);
  awaits_closers = napi_call_function(env, undefined, function, 0, nullptr, nullptr) == napi_ok;
  // At the end of the stack it throws, too: the next call tries again.
  napi_value failure = nullptr;
  if (!awaits_closers) napi_get_and_clear_last_exception(env, &failure);
  if (throws) napi_throw(env, thrown);
}

}  // namespace dmabuf::js
