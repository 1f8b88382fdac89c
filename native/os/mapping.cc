#include "os/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace dmabuf {

Result<Mapping> Mapping::Create(int fd, int protection, uint64_t offset, size_t length) {
  void* address = ::mmap(nullptr, length, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) return SystemError{errno, "mmap"};
  return Mapping(static_cast<uint8_t*>(address), length, (protection & PROT_WRITE) != 0);
}

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)),
      length_(std::exchange(other.length_, 0)),
      writable_(other.writable_) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(length_, other.length_);
  std::swap(writable_, other.writable_);
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, length_);
}

void Mapping::Retire() {
  // Writable whatever the mapping was: a late write must not fault either.
  void* replaced = ::mmap(address_, length_, PROT_READ | PROT_WRITE,
                          MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  // Only the limit on the number of mappings (ENOMEM) can refuse this. Then the old pages stay, which is
  // safe: they keep the buffer alive until the range is unmapped.
  (void)replaced;
}

size_t PageSize() {
  static const auto size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace dmabuf
