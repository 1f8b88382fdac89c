#pragma once

#include <cstdint>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// DMA_HEAP_IOCTL_ALLOC (Documentation/userspace-api/dma-buf-heaps.rst, Linux 5.6). `size` in bytes, rounded
// up to pages by the kernel; `access_mode` is O_RDONLY, O_WRONLY or O_RDWR. The result is close-on-exec.
Result<UniqueFd> AllocateFromHeap(int heap, uint64_t size, int access_mode);

}  // namespace dmabuf::os
