#pragma once

#include <string>

#include "os/result.h"
#include "os/survey.h"

namespace dmabuf::os {

// Looks for dma-bufs among the descriptors and mappings of all processes (proc(5)). A process or descriptor
// that disappears meanwhile is not an error; everything that cannot be read for another reason is in
// `refusals`. Only procfs is opened, and no request is sent to a file's file system: a server that never
// answers (FUSE, NFS) cannot block it. A process whose memory map stays locked, or that swaps its
// descriptors for files whose locks it holds, is left to a thread. `vague_command`: as in CommandOf().
Result<Survey> ScanProcesses(std::string vague_command);

}  // namespace dmabuf::os
