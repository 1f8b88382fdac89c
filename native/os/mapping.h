#pragma once

#include <cstddef>
#include <cstdint>

#include "os/result.h"

namespace dmabuf {

// A shared mapping of a dma-buf. The object owns the address range; Retire() and the destructor differ in
// what is left behind there.
class Mapping {
 public:
  // mmap(2), MAP_SHARED. `protection` is PROT_READ or PROT_READ | PROT_WRITE.
  static Result<Mapping> Create(int fd, int protection, uint64_t offset, size_t length);

  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  [[nodiscard]] uint8_t* address() const { return address_; }
  [[nodiscard]] size_t length() const { return length_; }
  [[nodiscard]] bool writable() const { return writable_; }

  // Lets go of the buffer but keeps the range: anonymous zero pages replace it in place, so whoever still
  // reads or writes there neither faults nor reaches memory that somebody else was given.
  void Retire();
  // Gives the range up without unmapping it.
  void Abandon() { address_ = nullptr; }

 private:
  Mapping(uint8_t* address, size_t length, bool writable)
      : address_(address), length_(length), writable_(writable) {}

  uint8_t* address_ = nullptr;
  size_t length_ = 0;
  bool writable_ = false;
};

// Bytes; offsets of mappings are multiples of it.
size_t PageSize();

}  // namespace dmabuf
