#pragma once

#include <string>

#include "os/result.h"
#include "os/survey.h"

namespace dmabuf::os {

// Looks for dma-bufs among the descriptors and mappings of all processes (proc(5)). A process or descriptor
// that goes meanwhile is no error; what cannot be read for any other reason is in `refusals`. Nothing is
// opened but procfs, and no file's file system is asked anything: a server that never answers (FUSE, NFS)
// cannot hold it up. A process whose memory map stays locked, or that swaps its descriptors for files whose
// locks it keeps, is left to a thread. `vague_command`: as in CommandOf().
Result<Survey> ScanProcesses(std::string vague_command);

}  // namespace dmabuf::os
