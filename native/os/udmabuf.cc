#include "os/udmabuf.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "os/retry.h"
#include "os/uapi.h"

namespace dmabuf::os {

Result<UniqueFd> CreateMemfd(const char* name, uint64_t size, uint64_t huge_page_size) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (huge_page_size != 0) {
    flags |= MFD_HUGETLB | (static_cast<unsigned>(__builtin_ctzll(huge_page_size)) << MFD_HUGE_SHIFT);
  }
  UniqueFd memfd(::memfd_create(name, flags));
  if (!memfd.valid()) return SystemError{errno, "memfd_create"};
  const int result = Retry([&] { return ::ftruncate(memfd.get(), static_cast<off_t>(size)); });
  if (result < 0) return SystemError{errno, "ftruncate"};
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK) < 0) return SystemError{errno, "fcntl"};
  return memfd;
}

Result<int> Seals(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return SystemError{errno, "fcntl"};
  return seals;
}

Result<UniqueFd> CreateUdmabuf(int device, const std::vector<MemfdPiece>& pieces) {
  if (pieces.size() == 1) {
    udmabuf_create request{};
    request.memfd = static_cast<uint32_t>(pieces[0].memfd);
    request.flags = UDMABUF_FLAGS_CLOEXEC;
    request.offset = pieces[0].offset;
    request.size = pieces[0].size;
    const int fd = RetryIoctl(device, UDMABUF_CREATE, &request);
    if (fd < 0) return SystemError{errno, "UDMABUF_CREATE"};
    return UniqueFd(fd);
  }
  // The header ends in a flexible array, which C++ lacks: lay it out in plain memory.
  std::vector<unsigned char> memory(sizeof(udmabuf_create_list) +
                                    pieces.size() * sizeof(udmabuf_create_item));
  udmabuf_create_list head{};
  head.flags = UDMABUF_FLAGS_CLOEXEC;
  head.count = static_cast<uint32_t>(pieces.size());
  std::memcpy(memory.data(), &head, sizeof head);
  for (size_t index = 0; index < pieces.size(); index++) {
    udmabuf_create_item item{};
    item.memfd = static_cast<uint32_t>(pieces[index].memfd);
    item.offset = pieces[index].offset;
    item.size = pieces[index].size;
    std::memcpy(memory.data() + sizeof head + index * sizeof item, &item, sizeof item);
  }
  const int fd = RetryIoctl(device, UDMABUF_CREATE_LIST, memory.data());
  if (fd < 0) return SystemError{errno, "UDMABUF_CREATE_LIST"};
  return UniqueFd(fd);
}

}  // namespace dmabuf::os
