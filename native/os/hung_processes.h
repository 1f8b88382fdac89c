#pragma once

#include <sys/types.h>

#include <cstddef>

#include "os/survey.h"

namespace dmabuf::os {

// The processes of which a read has not come back. Each such read costs a thread, however often somebody
// looks: so there is one list for all of this process.

// Whether there is one of what it holds in this way.
bool HasHung(int pid, Survey::Secret what);
// 1 from who left a thread behind, with the user whose process it is; -1 from the thread when it comes back.
// Either may be the first.
void AddHung(int pid, Survey::Secret what, uid_t user);
void RemoveHung(int pid, Survey::Secret what);

// How many of the threads that may be left (os/watched.h) the processes of one user may keep. His other
// processes are not looked at then; everybody else's are.
constexpr size_t kMostHungOfUser = 24;
// Whether he keeps so many. `process`: the folder of a process of his, in procfs.
bool HasHungTooMany(int process);
// Whose process it is.
uid_t UserOf(int process);

}  // namespace dmabuf::os
