#pragma once

#include "os/dma_buf.h"
#include "os/result.h"

namespace dmabuf::os {

// Which code may add fences to a buffer: only the calling thread, or any process at any time.
enum class Fences : bool { kOurs, kOfOthers };

// Begins CPU access if there is no fence to wait for; false if one has not signalled.
//
// The kernel has no START that does not wait, and a buffer that other processes hold may get a fence between
// a check and START. So a separate thread takes that risk, and the caller checks for fences until START is
// done. A thread that is left behind ends the access once it has begun: at most one thread for each fence
// that arrived at that moment, for as long as the fence takes.
Result<bool> TryBeginCpuAccess(int fd, CpuAccess access, Fences fences);

}  // namespace dmabuf::os
