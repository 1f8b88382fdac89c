#pragma once

#include <vector>

#include "os/result.h"
#include "os/survey.h"

namespace dmabuf {

// Looks for dma-bufs among the descriptors and mappings of these processes, or of all where `pids` is empty
// (proc(5)). A process or descriptor that goes meanwhile is no error; what may not be read is in `refusals`.
// Nothing is opened but procfs, and no file's file system is asked anything: a server that never answers
// (FUSE, NFS) cannot hold it up.
Result<Survey> ScanProcesses(const std::vector<int>& pids);

// Fills in the commands of the processes of a survey, where they may be read.
void ReadCommands(Survey* survey);

}  // namespace dmabuf
