#pragma once

#include <cstdint>

#include "os/result.h"
#include "os/uapi.h"
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

// A link to an iterator of this kernel. Fails with EPERM without CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN;
// EOPNOTSUPP and the name of what is missing, if the kernel has no such iterator or has one that loses
// buffers (before 6.18, without struct dmabuf_iter_priv); EINVAL if lockdown=confidentiality forbids reading
// strings.
Result<UniqueFd> LinkSurvey(BpfIterator iterator);

// What the programs write. Binary, since names hold any byte.
struct BufferRecord {
  uint64_t inode;
  uint64_t size;
  int64_t references;
  int32_t name_length;  // with the NUL; 0: unset; negative: errno
  int32_t exporter_length;
  char name[kMaxNameBytes + 1];
  char exporter[64];
};
static_assert(sizeof(BufferRecord) == 128);

struct HolderRecord {
  uint64_t inode;
  int32_t pid;
  int32_t unused;
};
static_assert(sizeof(HolderRecord) == 16);

}  // namespace dmabuf::os
