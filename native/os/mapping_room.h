#pragma once

#include <cstddef>
#include <cstdint>

#include "os/result.h"

namespace dmabuf::os {

// The kernel limits how many mappings a process has (vm.max_map_count, 65530 by default). At the limit it
// refuses every mmap(2), even one that only replaces pages, and then V8 ends the process, since it maps
// memory of its own all the time. So mappings of dma-bufs stop before the limit, and a few spare mappings
// are kept, which are given up when the release of a buffer needs mmap(2).

// Succeeds while there is room for one more mapping when `ours` already exist, and keeps spares; ENOMEM
// otherwise. Costs next to nothing, except sometimes, when it counts.
Result<void> CheckMappingRoom(size_t ours);

// Gives up the spare mappings; false when there are none. CheckMappingRoom() makes new ones. Safe in a
// signal handler.
bool ReleaseSpareMappings();

// The limits that may refuse a mapping; each is -1 if it is unknown, or if there is no limit.
struct MappingLimits {
  int64_t mappings = -1;            // of this process, now
  int64_t most_mappings = -1;       // vm.max_map_count
  int64_t kept_free = -1;           // of those, how many are reserved for other code
  int64_t address_space = -1;       // bytes in use (VmSize)
  int64_t most_address_space = -1;  // bytes (RLIMIT_AS)
};
MappingLimits LimitsOfMappings();

}  // namespace dmabuf::os
