#pragma once

#include <cstdint>
#include <optional>

#include "os/result.h"

namespace dmabuf {

// sysinfo(2): free memory in bytes, 0 when it fails. Half of it is surely available: reclaimable memory comes
// on top, and only the reserves of the zones go off. Costs a fortieth of reading /proc/meminfo.
uint64_t FreeMemory();

struct MemoryInfo {
  uint64_t available = 0;            // MemAvailable, bytes
  std::optional<uint64_t> cma_free;  // CmaFree, bytes; absent on kernels without CONFIG_CMA
};

// /proc/meminfo (proc_meminfo(5)).
Result<MemoryInfo> ReadMemoryInfo();

}  // namespace dmabuf
