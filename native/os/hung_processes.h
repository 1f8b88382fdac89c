#pragma once

#include <sys/types.h>

#include <cstddef>

#include "os/survey.h"

namespace dmabuf::os {

// The processes that block a read. Each such read occupies a thread, however often a process is inspected:
// so there is one list for the whole process.

// Whether there is one of what it holds in this way.
bool HasHung(int pid, Survey::Secret what);
// 1 from the code that left a thread behind, with the process's user; -1 from the thread when it returns.
// Either may come first.
void AddHung(int pid, Survey::Secret what, uid_t user);
void RemoveHung(int pid, Survey::Secret what);

// How many of the threads that may be left behind (os/watched.h) the processes of one user may occupy. Then
// no other process of that user is inspected; those of other users are.
constexpr size_t kMostHungOfUser = 24;
// Whether a user's processes occupy so many. `process`: the folder of one of them in procfs.
bool HasHungTooMany(int process);
// The user of a process.
uid_t UserOf(int process);

}  // namespace dmabuf::os
