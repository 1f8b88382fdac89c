#pragma once

#include <sys/ioctl.h>

#include <cerrno>

namespace dmabuf::os {

// ioctl(2), repeated while a signal interrupts it. Returns the call's value or -1 with errno set.
inline int RetryIoctl(int fd, unsigned long request, void* argument) {
  int result;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

}  // namespace dmabuf::os
