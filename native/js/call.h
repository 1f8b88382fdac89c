#pragma once

#include <cstddef>
#include <cstdint>

#include "js/addon_data.h"
#include "js/napi_setup.h"
#include "os/closer.h"
#include "os/result.h"

namespace dmabuf::js {

// When a call checks whether an argument's descriptor still refers to the same file as before.
enum class Identity : uint8_t {
  kAsked,  // when it is read
  // When it is read, for descriptors whose number JavaScript knows: a number that was never returned can
  // hardly have been closed, and the check costs a fifth of a message and a twelfth of a small allocation.
  // For the others as kIfRefused.
  kIfLent,
  kIfRefused,  // when the call fails: the reason may be that the descriptor has become another file's
  kUnasked,    // never, or the function checks itself
};

// One call from JavaScript: its arguments, and the ways to end it. The raw Node-API is used here because
// these few lines are on every hot path.
//
// Readers return false with a JavaScript TypeError pending when the argument has another type. The library
// has already checked the user's arguments; this only prevents a mistake in the library from corrupting
// memory.
class Call {
 public:
  static constexpr size_t kMaxArguments = 5;

  Call(napi_env env, napi_callback_info info, size_t count) : env_(env) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count, arguments_, nullptr, &data);
    addon_ = static_cast<AddonData*>(data);
  }

  [[nodiscard]] napi_env env() const { return env_; }
  [[nodiscard]] AddonData& addon() const { return *addon_; }
  [[nodiscard]] napi_value argument(size_t index) const { return arguments_[index]; }

  bool Read(size_t index, int32_t* value) {
    return napi_get_value_int32(env_, arguments_[index], value) == napi_ok || WrongType(index);
  }
  bool Read(size_t index, uint32_t* value) {
    return napi_get_value_uint32(env_, arguments_[index], value) == napi_ok || WrongType(index);
  }
  // A size or an offset: a whole number from 0 to 2^53.
  bool Read(size_t index, uint64_t* value) {
    double number = 0;
    if (napi_get_value_double(env_, arguments_[index], &number) != napi_ok) return WrongType(index);
    if (!(number >= 0 && number <= 9007199254740992.0)) return WrongType(index);
    *value = static_cast<uint64_t>(number);
    return static_cast<double>(*value) == number || WrongType(index);
  }
  bool ReadBigInt(size_t index, uint64_t* value) {
    bool lossless = false;
    return (napi_get_value_bigint_uint64(env_, arguments_[index], value, &lossless) == napi_ok && lossless) ||
           WrongType(index);
  }
  bool Read(size_t index, bool* value) {
    return napi_get_value_bool(env_, arguments_[index], value) == napi_ok || WrongType(index);
  }
  // UTF-8 with a terminating NUL; throws ENAMETOOLONG when it does not fit.
  bool Read(size_t index, char* text, size_t capacity);
  // The bytes of a Uint8Array.
  bool Read(size_t index, uint8_t** bytes, size_t* length);
  // The numbers of a Float64Array.
  bool Read(size_t index, double** numbers, size_t* length);
  // An open dma-buf or heap by its slot.
  bool Read(size_t index, HandleKind kind, Identity identity, Handle** handle) {
    uint32_t slot = 0;
    if (!Read(index, &slot)) return false;
    *handle = addon_->handles->Find(slot, kind);
    return *handle == nullptr ? Fail("ERR_DMABUF_CLOSED") : Identify(slot, identity, **handle);
  }

  // An open object of any kind.
  bool ReadAny(size_t index, Identity identity, uint32_t* slot, Handle** handle) {
    if (!Read(index, slot)) return false;
    *handle = addon_->handles->Find(*slot);
    return *handle == nullptr ? Fail("ERR_DMABUF_CLOSED") : Identify(*slot, identity, **handle);
  }

  // Throw, and return false, so that a caller can write `return call.Fail(...), nullptr`.
  bool Fail(const SystemError& error, const char* path = nullptr);
  bool Fail(const char* code);

  // The descriptor must still refer to the same file as before: otherwise EBADF or ERR_DMABUF_STALE_FD.
  bool CheckIdentity(Handle& handle);

  // Adds a slot, of which JavaScript makes an object.
  napi_value Yield(uint32_t slot) {
    addon_->unclaimed->Reclaim();
    addon_->unclaimed->AddSlot(slot);
    return Number(slot);
  }
  // The same for a descriptor that belonged to the caller before.
  napi_value YieldTaken(uint32_t slot) {
    const napi_value number = Yield(slot);
    addon_->unclaimed->MarkTaken();
    return number;
  }

  [[nodiscard]] napi_value Number(double value) const {
    napi_value result = nullptr;
    napi_create_double(env_, value, &result);
    return result;
  }
  [[nodiscard]] napi_value Number(uint32_t value) const {
    napi_value result = nullptr;
    napi_create_uint32(env_, value, &result);
    return result;
  }
  [[nodiscard]] napi_value Number(int32_t value) const {
    napi_value result = nullptr;
    napi_create_int32(env_, value, &result);
    return result;
  }
  [[nodiscard]] napi_value Boolean(bool value) const {
    napi_value result = nullptr;
    napi_get_boolean(env_, value, &result);
    return result;
  }
  // Bytes that should be UTF-8; others become U+FFFD.
  [[nodiscard]] napi_value Text(std::string_view text) const {
    napi_value result = nullptr;
    napi_create_string_utf8(env_, text.data(), text.size(), &result);
    return result;
  }

 private:
  bool ReadArray(size_t index, napi_typedarray_type wanted, void** data, size_t* length);
  bool WrongType(size_t index);
  bool Identify(uint32_t slot, Identity identity, Handle& handle) {
    if (identity == Identity::kIfLent || identity == Identity::kIfRefused) suspect_ = slot;
    const bool asks = identity == Identity::kAsked || (identity == Identity::kIfLent && handle.lent);
    return !asks || CheckIdentity(handle);
  }

  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t suspect_ = kNone;  // whose descriptor is checked when the call fails
  napi_env env_;
  AddonData* addon_ = nullptr;
  napi_value arguments_[kMaxArguments];
};

// Adapts a function that takes a Call with so many arguments to what Node-API wants.
template <napi_value (*function)(Call&), size_t count>
napi_value Entry(napi_env env, napi_callback_info info) {
  static_assert(count <= Call::kMaxArguments);
  Call call(env, info, count);
  const napi_value result = function(call);
  if (os::closers_missing.load(std::memory_order_relaxed)) call.addon().AskForClosers(env);
  return result;
}

}  // namespace dmabuf::js
