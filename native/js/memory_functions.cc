#include "js/functions.h"
#include "os/memory.h"

namespace dmabuf {

napi_value FreeMemoryBytes(Call& call) { return call.Number(static_cast<double>(FreeMemory())); }

napi_value AvailableMemory(Call& call) {
  const Result<MemoryInfo> memory = ReadMemoryInfo();
  if (!memory) return call.Fail(memory.error(), "/proc/meminfo"), nullptr;
  call.addon().registers[0] = static_cast<double>(memory->available);
  call.addon().registers[1] = memory->cma_free ? static_cast<double>(*memory->cma_free) : -1;
  return nullptr;
}

}  // namespace dmabuf
