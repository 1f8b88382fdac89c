#pragma once

#include <sys/ioctl.h>

#include <cerrno>

namespace dmabuf::os {

// Makes a system call, and makes it again while a signal interrupts it. Returns the call's value, or -1 with
// errno set.
template <typename Call>
auto Retry(Call call) -> decltype(call()) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

inline int RetryIoctl(int fd, unsigned long request, void* argument) {
  return Retry([=] { return ::ioctl(fd, request, argument); });
}

}  // namespace dmabuf::os
