#include "os/dma_heap.h"

#include <fcntl.h>

#include <cerrno>

#include "os/retry.h"
#include "os/uapi.h"

namespace dmabuf::os {

Result<UniqueFd> AllocateFromHeap(int heap, uint64_t size, int access_mode) {
  dma_heap_allocation_data request{};
  request.len = size;
  request.fd_flags = static_cast<uint32_t>(O_CLOEXEC | access_mode);
  if (RetryIoctl(heap, DMA_HEAP_IOCTL_ALLOC, &request) < 0) {
    return SystemError{errno, "DMA_HEAP_IOCTL_ALLOC"};
  }
  return UniqueFd(static_cast<int>(request.fd));
}

}  // namespace dmabuf::os
