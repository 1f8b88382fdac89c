#pragma once

#include <optional>
#include <utility>

namespace dmabuf::os {

// Why a system call failed: errno, and the call's name as in the manual page or the kernel's header.
struct SystemError {
  int number;
  const char* call;
};

// A value or the error of the call that should have made it.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(SystemError error) : error_(error) {}   // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return value_.has_value(); }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  [[nodiscard]] SystemError error() const { return error_; }

 private:
  std::optional<T> value_;
  SystemError error_{0, nullptr};
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(SystemError error) : error_(error) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return error_.number == 0; }
  [[nodiscard]] SystemError error() const { return error_; }

 private:
  SystemError error_{0, nullptr};
};

}  // namespace dmabuf::os
