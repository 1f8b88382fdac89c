#pragma once

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// The devices that make dma-bufs for users.
enum class DeviceKind { kHeap, kUdmabuf };

// Opens the device of this kind at `path`, for reading. A file of another kind fails with ENOTTY and is not
// opened: users, and Docker with volumes, create folders and files where the kernel has no device, and to
// open a FIFO or a terminal has side effects. If /sys is not mounted, every character device passes, and the
// kernel answers ENOTTY at the first allocation.
Result<UniqueFd> OpenDevice(const char* path, DeviceKind kind);

}  // namespace dmabuf::os
