#pragma once

#include <functional>

#include "os/result.h"

namespace dmabuf::os {

// Has `work` done by a process of its own, and waits for its end. It has this one's memory, and none of its
// descriptors: what the kernel has it wait for, even where SIGKILL ends no such wait, keeps neither this
// process from ending nor its files open. (A thread in such a wait does both.)
//
// `work` gets what it takes for the folder in openat(2); kOwnFolder is this process's working directory.
// Meanwhile this thread stands still, as after vfork(2), and its thread-local variables are the other
// process's: for threads that are watched. Where there can be no other process, as under valgrind, this
// thread does the work.
constexpr int kOwnFolder = -1;
Result<void> RunApart(int folder, const std::function<void(int folder)>& work);

// Whether a process is one of those, of this process: its memory is seen as that of another, too.
bool IsApart(int pid);

}  // namespace dmabuf::os
