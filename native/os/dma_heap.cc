#include "os/dma_heap.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>

#include "os/file.h"
#include "os/ioctl.h"
#include "os/uapi.h"

namespace dmabuf {

Result<bool> IsDmaHeap(int fd) {
  const Result<FileStatus> status = StatusOf(fd);
  if (!status) return status.error();
  if (!status->is_character_device) return false;

  char path[64];
  std::snprintf(path, sizeof path, "/sys/dev/char/%u:%u/subsystem", major(status->device_number),
                minor(status->device_number));
  char target[256];
  const ssize_t length = ::readlink(path, target, sizeof target);
  if (length < 0) return true;
  const std::string_view subsystem(target, static_cast<size_t>(length));
  return subsystem.substr(subsystem.rfind('/') + 1) == "dma_heap";
}

Result<UniqueFd> AllocateFromHeap(int heap, uint64_t size, int access_mode) {
  dma_heap_allocation_data request{};
  request.len = size;
  request.fd_flags = static_cast<uint32_t>(O_CLOEXEC | access_mode);
  if (RetryIoctl(heap, DMA_HEAP_IOCTL_ALLOC, &request) < 0) {
    return SystemError{errno, "DMA_HEAP_IOCTL_ALLOC"};
  }
  return UniqueFd(static_cast<int>(request.fd));
}

}  // namespace dmabuf
