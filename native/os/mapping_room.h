#pragma once

#include <cstddef>
#include <cstdint>

#include "os/result.h"

namespace dmabuf::os {

// The kernel limits how many mappings a process has (vm.max_map_count, 65530 by default). At the limit it
// refuses every mmap(2), even one that only replaces pages, and then V8 ends the process, since it maps
// memory of its own all the time. So mappings of dma-bufs stop before it, and a few spare mappings are kept,
// to be given up where letting go of a buffer needs mmap(2).

// Succeeds while there is room for one more mapping when `ours` exist already, and keeps spares; ENOMEM else.
// Costs next to nothing but once in a while, when it counts.
Result<void> CheckMappingRoom(size_t ours);

// Gives the spare mappings up; false when there are none. CheckMappingRoom() keeps others. Safe in a signal
// handler.
bool ReleaseSpareMappings();

// What may refuse a mapping; each is -1 where it cannot be told, or where there is no limit.
struct MappingLimits {
  int64_t mappings = -1;            // of this process, now
  int64_t most_mappings = -1;       // vm.max_map_count
  int64_t kept_free = -1;           // of those, how many are left to others
  int64_t address_space = -1;       // bytes in use (VmSize)
  int64_t most_address_space = -1;  // bytes (RLIMIT_AS)
};
MappingLimits LimitsOfMappings();

}  // namespace dmabuf::os
