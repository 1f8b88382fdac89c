#include "os/dma_buf.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include <cerrno>

#include "os/retry.h"
#include "os/uapi.h"

namespace dmabuf::os {
namespace {

Result<void> Sync(int fd, uint64_t flags) {
  dma_buf_sync request{};
  request.flags = flags;
  while (::ioctl(fd, DMA_BUF_IOCTL_SYNC, &request) < 0) {
    if (errno != EINTR && errno != EAGAIN) return SystemError{errno, "DMA_BUF_IOCTL_SYNC"};
  }
  return {};
}

}  // namespace

Result<bool> IsDmaBuf(int fd) {
  struct statfs status;
  const int result = Retry([&] { return ::fstatfs(fd, &status); });
  if (result < 0) return SystemError{errno, "fstatfs"};
  return static_cast<uint32_t>(status.f_type) == DMA_BUF_MAGIC;
}

short PollEvent(CpuAccess access) { return access == CpuAccess::kRead ? POLLIN : POLLOUT; }

Result<bool> IsReady(int fd, CpuAccess access) {
  pollfd request{fd, PollEvent(access), 0};
  const int count = Retry([&] { return ::poll(&request, 1, 0); });
  if (count < 0) return SystemError{errno, "poll"};
  if ((request.revents & POLLNVAL) != 0) return SystemError{EBADF, "poll"};
  return (request.revents & request.events) != 0;
}

Result<void> BeginCpuAccess(int fd, CpuAccess access) {
  return Sync(fd, static_cast<uint64_t>(access) | DMA_BUF_SYNC_START);
}

Result<void> EndCpuAccess(int fd, CpuAccess access) {
  return Sync(fd, static_cast<uint64_t>(access) | DMA_BUF_SYNC_END);
}

Result<void> SetName(int fd, const char* name) {
  // The header has two encodings of this request, for 32-bit and 64-bit callers; the kernel takes both.
  if (RetryIoctl(fd, DMA_BUF_SET_NAME_B, const_cast<char*>(name)) < 0) {
    return SystemError{errno, "DMA_BUF_SET_NAME"};
  }
  return {};
}

}  // namespace dmabuf::os
