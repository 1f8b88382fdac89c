#pragma once

#include <cstdint>
#include <optional>

#include "os/result.h"

namespace dmabuf {

// Bytes that sysinfo(2) counts as free: cheap, and never more than a few reserve pages above what is
// available, since reclaimable memory comes on top.
uint64_t FreeMemory();

struct MemoryInfo {
  uint64_t available = 0;            // MemAvailable, bytes
  std::optional<uint64_t> cma_free;  // CmaFree, bytes; absent on kernels without CONFIG_CMA
};

// /proc/meminfo (proc_meminfo(5)).
Result<MemoryInfo> ReadMemoryInfo();

}  // namespace dmabuf
