#pragma once

#include <optional>
#include <string>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// The devices that make dma-bufs for users.
enum class DeviceKind { kHeap, kUdmabuf };

// Opens the device of this kind at `path`, for reading. Whatever else lies there fails with ENOTTY and is not
// opened: users, and docker with volumes, make folders and files where the kernel has no device, and whoever
// opens a FIFO or a terminal is noticed. Where /sys is not mounted every character device passes, and the
// kernel answers ENOTTY at the first allocation.
Result<UniqueFd> OpenDevice(const char* path, DeviceKind kind);

// Whether the path still leads to the file that the descriptor is of, and this process may still read it: not
// where the device was replaced, its modes or this process's rights have changed, or the number is another
// file's.
bool IsStillAt(const char* path, int fd);

// Which folder is at the path, and when a name last came to it, went, or became another's, in words to be
// compared: empty where there is none. Nothing where that cannot be told, or is so short a time ago that the
// next change may get the same time.
std::optional<std::string> StampOfFolder(const char* path);

}  // namespace dmabuf::os
