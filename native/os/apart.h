#pragma once

#include <functional>

#include "os/result.h"

namespace dmabuf::os {

// Runs `work` in a separate process, and waits for its end. That process shares this one's memory, and has
// none of its descriptors. If it blocks in the kernel, even in a wait that SIGKILL does not end, this
// process can still end, and its files are closed. (A thread in such a wait would prevent both.)
//
// `work` gets the folder to pass to openat(2); kOwnFolder is this process's working directory. Meanwhile
// this thread is suspended, as after vfork(2), and the other process uses its thread-local variables: this
// is for watched threads. If no process can be created, as under valgrind, this thread does the work.
constexpr int kOwnFolder = -1;
Result<void> RunApart(int folder, const std::function<void(int folder)>& work);

// Whether a process is such a helper of this process: it appears to hold this process's memory, too.
bool IsApart(int pid);

}  // namespace dmabuf::os
