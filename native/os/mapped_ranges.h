#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace dmabuf::os {

// Addresses at which a dma-buf is mapped, or was: a place in a table of the process.
//
// An exporter may answer an access with SIGBUS, as drivers do whose device was removed; by default that ends
// the process. While a range is in the table, a handler puts zero pages there instead, and marks it lost.
struct MappedRange {
  std::atomic<char*> start{nullptr};  // nullptr: nothing
  std::atomic<size_t> length{0};      // bytes, whole pages
  std::atomic<bool> lost{false};
  MappedRange* next_free = nullptr;
};

// Records a range, and installs the handler if needed; nullptr if there is no memory for the table. The
// range stays in the table until no code can use its addresses.
MappedRange* NoteMappedRange(void* start, size_t length);
void ForgetMappedRange(MappedRange* range);

// How many are in the table.
size_t MappedRangeCount();

// How often a range was lost in this process.
extern std::atomic<uint32_t> lost_ranges;

// Puts anonymous zero pages there, in place and writable: code that still uses the range does not fault.
// Returns false with errno set. Safe in a signal handler.
bool ReplaceByZeros(void* start, size_t length);

}  // namespace dmabuf::os
