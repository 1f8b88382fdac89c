#include "js/functions.h"
#include "os/memory.h"
#include "os/memory_ledger.h"

namespace dmabuf::js {
namespace {

napi_value FreeMemory(Call& call) {
  const os::MachineMemory memory = os::ReadMachineMemory();
  call.addon().Leave(Register::kTotalMemory, memory.total);
  return call.Number(static_cast<double>(memory.free));
}

napi_value AvailableMemory(Call& call) {
  const Result<os::MemoryInfo> memory = os::ReadMemoryInfo();
  if (!memory) return call.Fail(memory.error(), "/proc/meminfo"), nullptr;
  AddonData& addon = call.addon();
  addon.Leave(Register::kAvailableMemory, memory->available);
  addon.Leave(Register::kFileCache, memory->file_cache);
  addon.Leave(Register::kCmaTotal, memory->cma_total.value_or(0));
  addon.Leave(Register::kCmaFree, memory->cma_free.value_or(0));
  return nullptr;
}

bool ReadStore(Call& call, os::MemoryStore* store) {
  bool is_groups = false;
  if (!call.Read(0, &is_groups)) return false;
  *store = is_groups ? os::MemoryStore::kGroups : os::MemoryStore::kMachine;
  return true;
}

napi_value SettledMemory(Call& call) {
  os::MemoryStore store{};
  if (!ReadStore(call, &store)) return nullptr;
  return call.Number(os::AccountOf(store).settled);
}

napi_value AdmitMemory(Call& call) {
  os::MemoryStore store{};
  uint64_t size = 0;
  uint64_t available = 0;
  uint64_t settled = 0;
  if (!ReadStore(call, &store) || !call.Read(1, &size) || !call.Read(2, &available) ||
      !call.Read(3, &settled)) {
    return nullptr;
  }
  os::MemoryReservation& reservation = call.addon().NextReservation();
  const bool admitted = reservation.Admit(store, static_cast<double>(size), static_cast<double>(available),
                                          static_cast<double>(settled));
  if (!admitted) {
    const os::MemoryAccount account = os::AccountOf(store);
    AddonData& addon = call.addon();
    addon.Leave(Register::kLeftMemory, os::LeftOf(account, static_cast<double>(available)));
    addon.Leave(Register::kReservedMemory, account.reserved);
    addon.Leave(Register::kSettledMemory, account.settled);
  }
  return call.Boolean(admitted);
}

napi_value ReserveMemory(Call& call) {
  uint64_t size = 0;
  bool is_charged = false;
  if (!call.Read(0, &size) || !call.Read(1, &is_charged)) return nullptr;
  os::MemoryReservation& reservation = call.addon().NextReservation();
  reservation.Set(os::MemoryStore::kMachine, static_cast<double>(size));
  reservation.Set(os::MemoryStore::kGroups, is_charged ? static_cast<double>(size) : 0);
  return nullptr;
}

napi_value ForgoMemory(Call& call) {
  call.addon().TakeReservation();
  return nullptr;
}

}  // namespace

const Exports kMemoryFunctions = {
    {"freeMemory", Entry<FreeMemory, 0>},       {"availableMemory", Entry<AvailableMemory, 0>},
    {"settledMemory", Entry<SettledMemory, 1>}, {"admitMemory", Entry<AdmitMemory, 4>},
    {"reserveMemory", Entry<ReserveMemory, 2>}, {"forgoMemory", Entry<ForgoMemory, 0>},
};

}  // namespace dmabuf::js
