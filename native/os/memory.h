#pragma once

#include <cstdint>
#include <optional>

#include "os/result.h"

namespace dmabuf::os {

struct MachineMemory {
  uint64_t free = 0;   // bytes, including unused contiguous memory (CMA)
  uint64_t total = 0;  // bytes
};

// sysinfo(2); all zero when it fails. Half of what is free outside CMA is surely available: reclaimable
// memory is added to it, and only the reserves of the zones are subtracted. Costs a fortieth of reading
// /proc/meminfo.
MachineMemory ReadMachineMemory();

// Bytes; 0 if the kernel does not count it.
struct MemoryInfo {
  uint64_t available = 0;   // MemAvailable
  uint64_t file_cache = 0;  // Active(file) + Inactive(file)
  std::optional<uint64_t> cma_total, cma_free;
};

// /proc/meminfo (proc_meminfo(5)).
Result<MemoryInfo> ReadMemoryInfo();

}  // namespace dmabuf::os
