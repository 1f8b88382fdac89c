#pragma once

#include "os/survey.h"

namespace dmabuf {

// The processes of which a read has not come back. Each such read costs a thread, however often somebody
// looks: so there is one list for all of this process.

// Whether there is one of what it holds in this way.
bool HasHung(int pid, Survey::Secret what);
// 1 from who left a thread behind, -1 from the thread when it comes back; either may be the first.
void AddHung(int pid, Survey::Secret what, int reads);

}  // namespace dmabuf
