#pragma once

#include <string>

#include "os/bpf_iterator.h"
#include "os/result.h"
#include "os/survey.h"

namespace dmabuf::os {

// Whether what a descriptor yields first could be from the iterator: nothing, or records that make sense.
// Fails where it cannot be read, which tells nothing of it.
Result<bool> ReadsAs(BpfIterator iterator, int fd);

struct BpfSurveyOptions {
  // Where the iterators are pinned, as an absolute path; empty to load them.
  std::string folder;
  bool buffers = true;
  bool holders = true;
  std::string vague_command;  // as in CommandOf()
};
// Reads the iterators. Without `buffers`, the buffers are those that somebody holds, and have no size.
// Holders' process ids are those of the first PID namespace: fails with EOPNOTSUPP and "pid_namespaces" in
// any other. Of what is pinned nothing is believed that another user could have put there: fails as
// OpenBpfFolder() and OpenPinned() do, with EPROTO and "read" when a record makes no sense, EAGAIN when none
// comes, EFBIG when they do not end. `where` is the path that is to blame, or empty.
Result<Survey> SurveyBpf(const BpfSurveyOptions& options, std::string* where);

}  // namespace dmabuf::os
