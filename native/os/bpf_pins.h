#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "os/result.h"

namespace dmabuf::os {

struct PinOptions {
  bool holders = false;
  mode_t mode = 0444;
  gid_t group = static_cast<gid_t>(-1);  // that: as the kernel makes them
};

// Places the iterators in a folder that FindBpfFolder() accepts, which is created if there is none, and
// returns their paths. They appear complete and all at once, and replace older ones; without `holders`,
// those of the holders are removed. When this fails, nothing has changed. `where` is the path that is to
// blame, or empty. Fails as FindBpfFolder() and LinkSurvey() do, and with EEXIST and "BPF_OBJ_PIN" if
// another program has pinned something under one of the names.
Result<std::vector<std::string>> PinIterators(const std::string& path, const PinOptions& options,
                                              std::string* where);

// Removes them, and the folder when it is then empty. Returns the names of the remaining files, which
// PinIterators() did not pin. Fails as OpenBpfFolder() does.
Result<std::vector<std::string>> UnpinIterators(const std::string& path, std::string* where);

}  // namespace dmabuf::os
