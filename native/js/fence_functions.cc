#include "js/functions.h"
#include "js/job.h"
#include "os/dma_buf.h"
#include "os/file.h"
#include "os/sync_file.h"

namespace dmabuf {
namespace {

napi_value AddSyncFile(Call& call, UniqueFd fd) {
  const Result<FileStatus> status = StatusOf(fd.get());
  if (!status) return call.Fail(status.error()), nullptr;
  return call.Number(call.addon().handles->Add(HandleKind::kSyncFile, std::move(fd), *status));
}

}  // namespace

napi_value IsReadyFor(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, &handle) || !call.Read(1, &access)) return nullptr;
  const Result<bool> ready = IsReady(handle->fd.get(), static_cast<CpuAccess>(access));
  return ready ? call.Boolean(*ready) : call.FailFor(*handle, ready.error());
}

napi_value BeginAccessAsync(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, &handle) || !call.Read(1, &access) || !call.CheckIdentity(*handle)) {
    return nullptr;
  }
  Result<UniqueFd> copy = Duplicate(handle->fd.get());
  if (!copy) return call.Fail(copy.error()), nullptr;
  const auto work = [access](int file) -> Result<UniqueFd> {
    const Result<void> begun = BeginCpuAccess(file, static_cast<CpuAccess>(access));
    if (!begun) return begun.error();
    return UniqueFd();
  };
  QueueJob(call, "dmabuf.cpuAccess", std::move(*copy), work, call.argument(2));
  return nullptr;
}

napi_value StartPoll(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  uint32_t access = 0;
  if (!call.ReadAny(0, &slot, &handle) || !call.Read(1, &access) || !call.CheckIdentity(*handle)) {
    return nullptr;
  }
  // A copy for the wait: it may outlive the object's own, and libuv allows one watcher per descriptor.
  Result<UniqueFd> copy = Duplicate(handle->fd.get());
  if (!copy) return call.Fail(copy.error()), nullptr;
  const short event = PollEvent(static_cast<CpuAccess>(access));
  const Result<uint32_t> wait = call.addon().polls.Start(std::move(*copy), event, call.argument(2));
  if (!wait) return call.Fail(wait.error()), nullptr;
  return call.Number(*wait);
}

napi_value CancelPoll(Call& call) {
  uint32_t wait = 0;
  if (call.Read(0, &wait)) call.addon().polls.Cancel(wait);
  return nullptr;
}

napi_value ImportSyncFileFd(Call& call) {
  int32_t fd = -1;
  bool take = false;
  if (!call.Read(0, &fd) || !call.Read(1, &take)) return nullptr;
  const Result<int32_t> status = SyncFileStatus(fd);
  if (!status) return call.Fail(status.error()), nullptr;
  if (take) {
    const Result<void> marked = SetCloseOnExec(fd);
    if (!marked) return call.Fail(marked.error()), nullptr;
    return AddSyncFile(call, UniqueFd(fd));
  }
  Result<UniqueFd> copy = Duplicate(fd);
  if (!copy) return call.Fail(copy.error()), nullptr;
  return AddSyncFile(call, std::move(*copy));
}

napi_value ExportFences(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, &handle) || !call.Read(1, &access) || !call.CheckIdentity(*handle)) {
    return nullptr;
  }
  Result<UniqueFd> file = ExportSyncFile(handle->fd.get(), static_cast<CpuAccess>(access));
  if (!file) return call.Fail(file.error()), nullptr;
  return AddSyncFile(call, std::move(*file));
}

napi_value ImportFences(Call& call) {
  Handle* buffer = nullptr;
  Handle* file = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, &buffer) || !call.Read(1, HandleKind::kSyncFile, &file) ||
      !call.Read(2, &access) || !call.CheckIdentity(*buffer) || !call.CheckIdentity(*file)) {
    return nullptr;
  }
  const Result<void> imported =
      ImportSyncFile(buffer->fd.get(), file->fd.get(), static_cast<CpuAccess>(access));
  if (!imported) call.Fail(imported.error());
  return nullptr;
}

napi_value StatusOfSyncFile(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kSyncFile, &handle)) return nullptr;
  const Result<int32_t> status = SyncFileStatus(handle->fd.get());
  return status ? call.Number(*status) : call.FailFor(*handle, status.error());
}

napi_value InfoOfSyncFile(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kSyncFile, &handle)) return nullptr;
  const Result<SyncFileDetails> details = DescribeSyncFile(handle->fd.get());
  if (!details) return call.FailFor(*handle, details.error());

  napi_env env = call.env();
  napi_value values = nullptr;
  napi_create_array_with_length(env, 1 + 4 * details->fences.size(), &values);
  uint32_t index = 0;
  const auto append = [&](napi_value value) { napi_set_element(env, values, index++, value); };
  append(call.Text(details->info.name));
  for (const sync_fence_info& fence : details->fences) {
    napi_value timestamp = nullptr;
    napi_create_bigint_uint64(env, fence.timestamp_ns, &timestamp);
    append(call.Text(fence.obj_name));
    append(call.Text(fence.driver_name));
    append(call.Number(fence.status));
    append(timestamp);
  }
  call.addon().registers[0] = details->info.status;
  return values;
}

napi_value MergeFences(Call& call) {
  char name[256];
  Handle* first = nullptr;
  Handle* second = nullptr;
  if (!call.Read(0, name, sizeof name) || !call.Read(1, HandleKind::kSyncFile, &first) ||
      !call.Read(2, HandleKind::kSyncFile, &second) || !call.CheckIdentity(*first) ||
      !call.CheckIdentity(*second)) {
    return nullptr;
  }
  Result<UniqueFd> merged = MergeSyncFiles(name, first->fd.get(), second->fd.get());
  if (!merged) return call.Fail(merged.error()), nullptr;
  return AddSyncFile(call, std::move(*merged));
}

napi_value SetFenceDeadline(Call& call) {
  Handle* handle = nullptr;
  uint64_t deadline = 0;
  if (!call.Read(0, HandleKind::kSyncFile, &handle) || !call.ReadBigInt(1, &deadline) ||
      !call.CheckIdentity(*handle)) {
    return nullptr;
  }
  const Result<void> set = SetSyncFileDeadline(handle->fd.get(), deadline);
  if (!set) call.Fail(set.error());
  return nullptr;
}

}  // namespace dmabuf
