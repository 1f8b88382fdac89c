#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <vector>

#include "os/result.h"

namespace dmabuf::os {

// What /proc says about a process's descriptor that had a dma-buf's name. After the name was read, the
// process may have replaced the file by one whose lock it holds (epoll(7)), or by one of a file system that
// it prevents from answering. So a watched thread reads this.
struct DescriptorLook {
  int fd = -1;
  bool wants_status = false;  // else only what cannot be found out otherwise
  SystemError error{0, nullptr};
  std::string text;  // of its fdinfo
  std::optional<struct statx> status;
};

// Inspects all of them: in a separate process, except for this process's own descriptors, which it might not
// be allowed to see there. `process`: the folder /proc/<pid> or one of its threads'.
Result<void> LookAtDescriptors(int process, int pid, std::vector<DescriptorLook>* looks);

// The text of a descriptor's fdinfo; empty when its name is not that of a dma-buf. `pid` 0 is the calling
// process. ETIMEDOUT when another process prevents it from being read.
Result<std::string> ReadFdInfo(int pid, int fd);

}  // namespace dmabuf::os
