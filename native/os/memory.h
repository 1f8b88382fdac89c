#pragma once

#include <cstdint>
#include <optional>

#include "os/result.h"

namespace dmabuf::os {

struct MachineMemory {
  uint64_t free = 0;   // bytes, those of contiguous memory (CMA) that nobody uses included
  uint64_t total = 0;  // bytes
};

// sysinfo(2); nothing is free when it fails. Half of what is free outside of CMA is surely available:
// reclaimable memory comes on top, and only the reserves of the zones go off. Costs a fortieth of reading
// /proc/meminfo.
MachineMemory ReadMachineMemory();

// Bytes; what a kernel does not count is absent.
struct MemoryInfo {
  uint64_t available = 0;   // MemAvailable
  uint64_t file_cache = 0;  // Active(file) + Inactive(file)
  std::optional<uint64_t> cma_total, cma_free;
};

// /proc/meminfo (proc_meminfo(5)).
Result<MemoryInfo> ReadMemoryInfo();

}  // namespace dmabuf::os
