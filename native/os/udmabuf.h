#pragma once

#include <cstdint>
#include <vector>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// memfd_create(2), sized and sealed as udmabuf demands (F_SEAL_SHRINK). `huge_page_size` in bytes, a power of
// two that the kernel has (MFD_HUGETLB), or 0 for ordinary pages. `size` is a multiple of the page size.
Result<UniqueFd> CreateMemfd(const char* name, uint64_t size, uint64_t huge_page_size);

// fcntl(2) F_GET_SEALS: the seals, or EINVAL for a file that cannot have any.
Result<int> Seals(int fd);

struct MemfdPiece {
  int memfd;
  uint64_t offset;  // bytes, a multiple of the page size
  uint64_t size;    // bytes, likewise
};

// UDMABUF_CREATE or, for several pieces, UDMABUF_CREATE_LIST (Linux 4.20) on the open device. The
// result is close-on-exec, readable and writable.
Result<UniqueFd> CreateUdmabuf(int device, const std::vector<MemfdPiece>& pieces);

}  // namespace dmabuf::os
