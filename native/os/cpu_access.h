#pragma once

#include "os/dma_buf.h"
#include "os/result.h"

namespace dmabuf::os {

// Who may add fences to a buffer: only the calling thread, or anybody at any time.
enum class Fences : bool { kOurs, kOfOthers };

// Begins CPU access where no fence has to be waited for; false where one has not signalled.
//
// The kernel has no START that does not wait, and what others hold may get a fence between a look and START.
// So a thread of its own takes that risk, and the caller looks whether there is a fence as long as START is
// not over. The thread that is left behind ends the access when it has begun after all: at most one for each
// fence that came in that moment, for as long as the fence takes.
Result<bool> TryBeginCpuAccess(int fd, CpuAccess access, Fences fences);

}  // namespace dmabuf::os
