#include "os/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "os/mapping_room.h"

namespace dmabuf::os {
namespace {

void Unmap(void* address, size_t length) {
  // In the middle of ranges that the kernel has joined to one mapping, this needs another mapping. If there
  // is none, the range stays, which is safe.
  if (::munmap(address, length) != 0 && errno == ENOMEM && ReleaseSpareMappings()) ::munmap(address, length);
}

size_t WholePages(size_t length) { return (length + PageSize() - 1) & ~(PageSize() - 1); }

}  // namespace

Result<Mapping> Mapping::Create(int fd, int protection, uint64_t offset, size_t length) {
  const Result<void> room = CheckMappingRoom(MappedRangeCount());
  if (!room) return room.error();
  void* address = ::mmap(nullptr, length, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) return SystemError{errno, "mmap"};
  MappedRange* range = NoteMappedRange(address, WholePages(length));
  if (range == nullptr) {
    Unmap(address, length);
    return SystemError{ENOMEM, "mmap"};
  }
  return Mapping(static_cast<uint8_t*>(address), length, (protection & PROT_WRITE) != 0, range);
}

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)),
      length_(std::exchange(other.length_, 0)),
      writable_(other.writable_),
      range_(other.range_) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(length_, other.length_);
  std::swap(writable_, other.writable_);
  std::swap(range_, other.range_);
  return *this;
}

Mapping::~Mapping() {
  if (address_ == nullptr) return;
  // This comes first: as soon as the range is unmapped, other code may get it.
  ForgetMappedRange(range_);
  Unmap(address_, length_);
}

Result<void> Mapping::Retire() {
  if (!ReplaceByZeros(address_, length_)) return SystemError{errno, "mmap"};
  return {};
}

size_t PageSize() {
  static const auto size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace dmabuf::os
