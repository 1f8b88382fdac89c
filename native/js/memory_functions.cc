#include "js/functions.h"
#include "os/memory.h"

namespace dmabuf {

napi_value FreeMemory(Call& call) {
  const MachineMemory memory = ReadMachineMemory();
  call.addon().registers[0] = static_cast<double>(memory.total);
  return call.Number(static_cast<double>(memory.free));
}

napi_value AvailableMemory(Call& call) {
  const Result<MemoryInfo> memory = ReadMemoryInfo();
  if (!memory) return call.Fail(memory.error(), "/proc/meminfo"), nullptr;
  double* registers = call.addon().registers;
  registers[0] = static_cast<double>(memory->available);
  registers[1] = static_cast<double>(memory->file_cache);
  registers[2] = static_cast<double>(memory->cma_total.value_or(0));
  registers[3] = static_cast<double>(memory->cma_free.value_or(0));
  return nullptr;
}

}  // namespace dmabuf
