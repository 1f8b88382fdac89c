#pragma once

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// pidfd_open(2) (Linux 5.3) and pidfd_getfd(2) (5.6): the same open file as `fd` is in the process `pid`,
// which the caller must be allowed to trace. Close-on-exec.
Result<UniqueFd> CopyFromProcess(int pid, int fd);

}  // namespace dmabuf::os
