#include "js/functions.h"
#include "os/dma_buf.h"
#include "os/entrusted.h"
#include "os/file.h"
#include "os/file_kind.h"

namespace dmabuf::js {
namespace {

// For a buffer that other processes hold, too.
uint32_t AddShared(Call& call, UniqueFd fd, const os::FileStatus& status) {
  Handles& handles = *call.addon().handles;
  const uint32_t slot = handles.Add(HandleKind::kDmaBuf, std::move(fd), status);
  Share(*handles.Find(slot), nullptr);
  return slot;
}

// Leaves what JavaScript shows about a file in the registers, except its number.
void ShowFile(AddonData& addon, const Handle& handle) {
  addon.Leave(Register::kInode, handle.identity.inode);
  addon.Leave(Register::kSize, handle.size);
}

napi_value ImportFd(Call& call) {
  int32_t fd = -1;
  bool take = false;
  if (!call.Read(0, &fd) || !call.Read(1, &take)) return nullptr;
  const Result<os::FileDescription> file = os::DescribeForeignFile(fd);
  if (!file) return call.Fail(file.error()), nullptr;
  if (file->kind != os::FileKind::kDmaBuf) return call.Fail("ERR_DMABUF_NOT_DMABUF"), nullptr;
  if (take) {
    const Result<void> marked = os::MarkCloseOnExec(fd);
    if (!marked) return call.Fail(marked.error()), nullptr;
    os::Redeem(fd);
    return call.YieldTaken(AddShared(call, UniqueFd(fd), file->status));
  }
  Result<UniqueFd> copy = os::Duplicate(fd);
  if (!copy) return call.Fail(copy.error()), nullptr;
  Handles& handles = *call.addon().handles;
  const std::optional<uint32_t> original = handles.FindBuffer(fd, file->status.identity);
  if (!original) return call.Yield(AddShared(call, std::move(*copy), file->status));
  const uint32_t slot = handles.Add(HandleKind::kDmaBuf, std::move(*copy), file->status);
  handles.Join(*original, slot);
  return call.Yield(slot);
}

napi_value IsDmaBuf(Call& call) {
  int32_t fd = -1;
  if (!call.Read(0, &fd)) return nullptr;
  const Result<os::FileDescription> file = os::DescribeForeignFile(fd);
  if (!file) return call.Fail(file.error()), nullptr;
  return call.Boolean(file->kind == os::FileKind::kDmaBuf);
}

napi_value Describe(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  if (!call.ReadAny(0, Identity::kUnasked, &slot, &handle)) return nullptr;
  Lend(*handle);
  // The number is returned even if nothing else about the file is known.
  call.addon().Leave(Register::kFd, handle->fd.get());
  if (!handle->identified && !call.CheckIdentity(*handle)) return nullptr;
  ShowFile(call.addon(), *handle);
  return nullptr;
}

napi_value Measure(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kUnasked, &handle)) return nullptr;
  if (!handle->identified && !call.CheckIdentity(*handle)) return nullptr;
  ShowFile(call.addon(), *handle);
  return nullptr;
}

napi_value Verify(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  (void)call.ReadAny(0, Identity::kAsked, &slot, &handle);
  return nullptr;
}

napi_value Close(Call& call) {
  uint32_t slot = 0;
  if (!call.Read(0, &slot)) return nullptr;
  const Handle* handle = call.addon().handles->Find(slot);
  if (handle == nullptr) return nullptr;
  const bool lost = IsLost(*handle);
  const Result<void> closed = call.addon().handles->Close(slot);
  if (!closed) return call.Fail(closed.error()), nullptr;
  call.addon().unclaimed->Forget(slot);
  return lost ? call.Boolean(true) : nullptr;
}

napi_value IsLost(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kUnasked, &handle)) return nullptr;
  return call.Boolean(IsLost(*handle));
}

napi_value Abandon(Call& call) {
  uint32_t slot = 0;
  if (!call.Read(0, &slot)) return nullptr;
  if (call.addon().handles->Find(slot) != nullptr) call.addon().handles->Abandon(slot);
  return nullptr;
}

napi_value Release(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  if (!call.ReadAny(0, Identity::kAsked, &slot, &handle)) return nullptr;
  const Result<int> fd = call.addon().handles->Release(slot);
  if (!fd) return call.Fail(fd.error()), nullptr;
  Unclaimed& unclaimed = *call.addon().unclaimed;
  unclaimed.Forget(slot);
  unclaimed.Reclaim();
  unclaimed.AddFd(*fd);
  return call.Number(*fd);
}

napi_value Duplicate(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  if (!call.ReadAny(0, Identity::kAsked, &slot, &handle)) return nullptr;
  Result<UniqueFd> copy = os::Duplicate(handle->fd.get());
  if (!copy) return call.Fail(copy.error()), nullptr;
  const os::FileStatus status{handle->identity, handle->size, false, 0};
  const uint32_t duplicate = call.addon().handles->Add(handle->kind, std::move(*copy), status);
  call.addon().handles->Join(slot, duplicate);
  return call.Yield(duplicate);
}

napi_value ListHandles(Call& call) {
  double* numbers = nullptr;
  size_t length = 0;
  if (!call.Read(0, &numbers, &length)) return nullptr;
  call.addon().unclaimed->Reclaim();
  size_t count = 0;
  for (const Handle* handle : call.addon().handles->List()) {
    if (handle->kind == HandleKind::kMessage) continue;
    if (3 * count + 2 < length) {
      numbers[3 * count] = handle->slot;
      numbers[3 * count + 1] = static_cast<double>(handle->kind);
      numbers[3 * count + 2] = static_cast<double>(handle->mappings.size() + (handle->whole ? 1 : 0));
    }
    count++;
  }
  return call.Number(static_cast<double>(count));
}

napi_value SetName(Call& call) {
  Handle* handle = nullptr;
  char name[256];
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kAsked, &handle) || !call.Read(1, name, sizeof name)) {
    return nullptr;
  }
  const Result<void> named = os::SetName(handle->fd.get(), name);
  if (!named) call.Fail(named.error());
  return nullptr;
}

napi_value BeginCpuAccess(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kIfRefused, &handle) || !call.Read(1, &access))
    return nullptr;
  if (IsLost(*handle)) return call.Fail("ERR_DMABUF_LOST"), nullptr;
  const Result<void> begun = os::BeginCpuAccess(handle->fd.get(), static_cast<os::CpuAccess>(access));
  if (!begun) call.Fail(begun.error());
  return nullptr;
}

napi_value TryBeginCpuAccess(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kIfRefused, &handle) || !call.Read(1, &access))
    return nullptr;
  if (IsLost(*handle)) return call.Fail("ERR_DMABUF_LOST"), nullptr;
  const Result<bool> begun =
      os::TryBeginCpuAccess(handle->fd.get(), static_cast<os::CpuAccess>(access), FencesOf(*handle));
  return begun ? call.Boolean(*begun) : (call.Fail(begun.error()), nullptr);
}

napi_value EndCpuAccess(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kIfRefused, &handle) || !call.Read(1, &access))
    return nullptr;
  const Result<void> ended = os::EndCpuAccess(handle->fd.get(), static_cast<os::CpuAccess>(access));
  if (!ended) return call.Fail(ended.error()), nullptr;
  if (IsLost(*handle)) call.Fail("ERR_DMABUF_LOST");
  return nullptr;
}

}  // namespace

const Exports kBufferFunctions = {
    {"importFd", Entry<ImportFd, 2>},
    {"isDmaBuf", Entry<IsDmaBuf, 1>},
    {"describe", Entry<Describe, 1>},
    {"measure", Entry<Measure, 1>},
    {"verify", Entry<Verify, 1>},
    {"close", Entry<Close, 1>},
    {"isLost", Entry<IsLost, 1>},
    {"abandon", Entry<Abandon, 1>},
    {"release", Entry<Release, 1>},
    {"duplicate", Entry<Duplicate, 1>},
    {"listHandles", Entry<ListHandles, 1>},
    {"setName", Entry<SetName, 2>},
    {"beginCpuAccess", Entry<BeginCpuAccess, 2>},
    {"tryBeginCpuAccess", Entry<TryBeginCpuAccess, 2>},
    {"endCpuAccess", Entry<EndCpuAccess, 2>},
};

}  // namespace dmabuf::js
