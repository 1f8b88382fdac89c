#pragma once

#include <cstddef>
#include <cstdint>

#include "os/mapped_ranges.h"
#include "os/result.h"

namespace dmabuf::os {

// A shared mapping of a dma-buf. The object owns the address range; Retire() and the destructor differ in
// what is left behind there.
class Mapping {
 public:
  // mmap(2), MAP_SHARED. `protection` is PROT_READ or PROT_READ | PROT_WRITE. ENOMEM also if the process is
  // about to reach the limit on mappings.
  static Result<Mapping> Create(int fd, int protection, uint64_t offset, size_t length);

  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  [[nodiscard]] uint8_t* address() const { return address_; }
  [[nodiscard]] size_t length() const { return length_; }
  [[nodiscard]] bool writable() const { return writable_; }
  // Whether the exporter answered an access with SIGBUS. Since then there are zero pages.
  [[nodiscard]] bool lost() const { return range_->lost.load(std::memory_order_relaxed); }

  // Releases the buffer but keeps the range: anonymous zero pages replace it in place, so code that still
  // reads or writes there neither faults nor reaches other memory. When the kernel refuses (ENOMEM at the
  // limit of mappings, EAGAIN if memory is locked), nothing has changed.
  Result<void> Retire();
  // Gives the range up without unmapping it.
  void Abandon() { address_ = nullptr; }

 private:
  Mapping(uint8_t* address, size_t length, bool writable, MappedRange* range)
      : address_(address), length_(length), writable_(writable), range_(range) {}

  uint8_t* address_ = nullptr;
  size_t length_ = 0;
  bool writable_ = false;
  MappedRange* range_ = nullptr;
};

// Bytes; offsets of mappings are multiples of it.
size_t PageSize();

}  // namespace dmabuf::os
