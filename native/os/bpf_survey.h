#pragma once

#include <string>

#include "os/result.h"
#include "os/survey.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// The kernel's iterators that a survey is read from.
enum class BpfIterator : uint8_t {
  kBuffers,      // bpf_iter_dmabuf, Linux 6.16: every dma-buf
  kDescriptors,  // bpf_iter_task_file, 5.8: every descriptor of a dma-buf
  kMappings,     // bpf_iter_task_vma, 5.12: every mapping of a dma-buf
};

// The file of a folder in a BPF file system that an iterator is pinned as.
const char* PinName(BpfIterator iterator);

// A link to an iterator of this kernel. Fails with
// EPERM without CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN;
// EOPNOTSUPP and the name of what is missing, where the kernel has no such iterator or has one that loses
// buffers (before 6.18, without struct dmabuf_iter_priv);
// EINVAL where lockdown=confidentiality forbids to read strings.
Result<UniqueFd> LinkSurvey(BpfIterator iterator);

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
