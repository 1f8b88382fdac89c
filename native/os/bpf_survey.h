#pragma once

#include <string>

#include "os/bpf_iterator.h"
#include "os/result.h"
#include "os/survey.h"

namespace dmabuf::os {

// Whether the first data of a descriptor can come from the iterator: nothing, or valid records. Fails if it
// cannot be read; then this is unknown.
Result<bool> ReadsAs(BpfIterator iterator, int fd);

struct BpfSurveyOptions {
  // Where the iterators are pinned, as an absolute path; empty to load them.
  std::string folder;
  bool buffers = true;
  bool holders = true;
  std::string vague_command;  // as in CommandOf()
};
// Reads the iterators. Without `buffers`, only buffers that processes hold are listed, without their size.
// Holders' process ids are those of the first PID namespace: fails with EOPNOTSUPP and "pid_namespaces" in
// any other. Pinned files that another user could have placed there are not trusted: fails as
// OpenBpfFolder() and OpenPinned() do, with EPROTO and "read" when a record is invalid, EAGAIN when none
// arrives, EFBIG when they do not end. `where` is the path that is to blame, or empty.
Result<Survey> SurveyBpf(const BpfSurveyOptions& options, std::string* where);

}  // namespace dmabuf::os
