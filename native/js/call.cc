#include "js/call.h"

#include <cerrno>
#include <cstdio>

namespace dmabuf::js {

bool Call::Read(size_t index, char* text, size_t capacity) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env_, arguments_[index], nullptr, 0, &length) != napi_ok) {
    return WrongType(index);
  }
  // The lengths of all texts except paths were checked before.
  if (length >= capacity) return Fail(SystemError{ENAMETOOLONG, "open"});
  return napi_get_value_string_utf8(env_, arguments_[index], text, capacity, nullptr) == napi_ok ||
         WrongType(index);
}

bool Call::Read(size_t index, uint8_t** bytes, size_t* length) {
  void* data = nullptr;
  if (!ReadArray(index, napi_uint8_array, &data, length)) return false;
  *bytes = static_cast<uint8_t*>(data);
  return true;
}

bool Call::Read(size_t index, double** numbers, size_t* length) {
  void* data = nullptr;
  if (!ReadArray(index, napi_float64_array, &data, length)) return false;
  *numbers = static_cast<double*>(data);
  return true;
}

bool Call::ReadArray(size_t index, napi_typedarray_type wanted, void** data, size_t* length) {
  napi_typedarray_type type = napi_int8_array;
  // Node-API itself refuses values that are not typed arrays.
  return (napi_get_typedarray_info(env_, arguments_[index], &type, length, data, nullptr, nullptr) ==
              napi_ok &&
          type == wanted) ||
         WrongType(index);
}

bool Call::Fail(const SystemError& error, const char* path) {
  Handle* suspect = suspect_ == kNone ? nullptr : addon_->handles->Find(suspect_);
  const Result<bool> ours = suspect == nullptr ? true : js::CheckIdentity(*suspect);
  if (ours && !*ours) return Fail("ERR_DMABUF_STALE_FD");
  // If the check itself fails, the error of the call is what matters to the caller.
  const bool closed = !ours && ours.error().number == EBADF;
  addon_->Throw(env_, closed ? ours.error() : error, closed ? nullptr : path);
  return false;
}

bool Call::Fail(const char* code) {
  addon_->Throw(env_, code);
  return false;
}

bool Call::CheckIdentity(Handle& handle) {
  const Result<bool> ours = js::CheckIdentity(handle);
  if (!ours) return addon_->Throw(env_, ours.error(), nullptr), false;
  return *ours || Fail("ERR_DMABUF_STALE_FD");
}

bool Call::WrongType(size_t index) {
  char message[64];
  std::snprintf(message, sizeof message, "dmabuf: argument %zu of a native call is of the wrong type", index);
  napi_throw_type_error(env_, "ERR_INVALID_ARG_TYPE", message);
  return false;
}

}  // namespace dmabuf::js
