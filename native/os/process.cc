#include "os/process.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

// The numbers are the same on every architecture; the headers of older C libraries lack them.
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

namespace dmabuf::os {

Result<UniqueFd> CopyFromProcess(int pid, int fd) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return SystemError{errno, "pidfd_open"};
  const auto copy = static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0));
  if (copy < 0) return SystemError{errno, "pidfd_getfd"};
  return UniqueFd(copy);
}

}  // namespace dmabuf::os
