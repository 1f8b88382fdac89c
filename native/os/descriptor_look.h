#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <vector>

#include "os/result.h"

namespace dmabuf::os {

// What /proc tells of a process's descriptor that had a dma-buf's name. Between the look at the name and this
// one the process may have made it another file: one whose lock it keeps (epoll(7)), or of a file system that
// it keeps from answering. So it takes a thread that is watched.
struct DescriptorLook {
  int fd = -1;
  bool wants_status = false;  // else only what cannot be told otherwise
  SystemError error{0, nullptr};
  std::string text;  // of its fdinfo
  std::optional<struct statx> status;
};

// Looks at all of them: from a process apart, but for this process's own, which it might have no right to see
// there. `process`: the folder /proc/<pid> or one of its threads'.
Result<void> LookAtDescriptors(int process, int pid, std::vector<DescriptorLook>* looks);

// The text of a descriptor's fdinfo; empty when it is no dma-buf's by its name. `pid` 0 is the calling
// process. ETIMEDOUT when another process keeps it from being read.
Result<std::string> ReadFdInfo(int pid, int fd);

}  // namespace dmabuf::os
