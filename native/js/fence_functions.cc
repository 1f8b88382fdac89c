#include <cerrno>
#include <cstring>
#include <vector>

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
  return call.Yield(call.addon().handles->Add(HandleKind::kSyncFile, std::move(fd), *status));
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
  const short event = PollEvent(static_cast<CpuAccess>(access));
  const Result<uint32_t> wait = call.addon().polls.Start(slot, handle->fd.get(), event, call.argument(2));
  if (!wait) return call.Fail(wait.error()), nullptr;
  return call.Number(*wait);
}

napi_value WaitOnThread(Call& call) {
  call.addon().polls.UseThread();
  return nullptr;
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
  const Result<bool> is_sync_file = IsSyncFile(fd);
  if (!is_sync_file) return call.Fail(is_sync_file.error()), nullptr;
  if (!*is_sync_file) return call.Fail(SystemError{ENOTTY, "SYNC_IOC_FILE_INFO"}), nullptr;
  if (take) {
    const Result<FileStatus> status = StatusOf(fd);
    if (!status) return call.Fail(status.error()), nullptr;
    const Result<void> marked = SetCloseOnExec(fd);
    if (!marked) return call.Fail(marked.error()), nullptr;
    return call.YieldTaken(call.addon().handles->Add(HandleKind::kSyncFile, UniqueFd(fd), *status));
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

namespace {

// Lays out what JavaScript is to know of `count` fences: numbers as pairs of status and timestamp bits, names
// in one string, separated by NUL, which no name holds. (As an array of single values, info() of one fence
// cost twice as much.) Returns the string's length.
size_t Flatten(const sync_file_info& info, const sync_fence_info* fences, size_t count, double* numbers,
               char* names) {
  char* end = names;
  const auto append = [&end](const char* text) {
    const size_t bytes = strnlen(text, sizeof info.name);
    std::memcpy(end, text, bytes);
    end += bytes;
  };
  append(info.name);
  for (size_t index = 0; index < count; index++) {
    *end++ = '\0';
    append(fences[index].obj_name);
    *end++ = '\0';
    append(fences[index].driver_name);
    numbers[2 * index] = fences[index].status;
    std::memcpy(&numbers[2 * index + 1], &fences[index].timestamp_ns, sizeof(double));
  }
  return static_cast<size_t>(end - names);
}

constexpr size_t NameBytes(size_t fences) { return 32 + fences * 66; }

}  // namespace

napi_value InfoOfSyncFile(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kSyncFile, &handle)) return nullptr;
  sync_fence_info fences[kFewFences];
  sync_file_info info;
  const Result<void> described = DescribeSyncFile(handle->fd.get(), kFewFences, fences, &info);
  if (!described) return call.FailFor(*handle, described.error());
  double* registers = call.addon().registers;
  registers[0] = info.status;
  registers[1] = info.num_fences;
  const size_t count = info.num_fences <= kFewFences ? info.num_fences : 0;
  char names[NameBytes(kFewFences)];
  return call.Text({names, Flatten(info, fences, count, registers + 2, names)});
}

napi_value ManyFencesOfSyncFile(Call& call) {
  Handle* handle = nullptr;
  double* numbers = nullptr;
  size_t length = 0;
  if (!call.Read(0, HandleKind::kSyncFile, &handle) || !call.Read(1, &numbers, &length)) return nullptr;
  const size_t capacity = length / 2;
  std::vector<sync_fence_info> fences(capacity);
  sync_file_info info;
  const Result<void> described =
      DescribeSyncFile(handle->fd.get(), static_cast<uint32_t>(capacity), fences.data(), &info);
  if (!described) return call.FailFor(*handle, described.error());
  call.addon().registers[0] = info.status;
  call.addon().registers[1] = info.num_fences;
  const size_t count = info.num_fences <= capacity ? info.num_fences : 0;
  std::vector<char> names(NameBytes(capacity));
  return call.Text({names.data(), Flatten(info, fences.data(), count, numbers, names.data())});
}

napi_value MergeFences(Call& call) {
  char name[256];
  double* handles = nullptr;
  size_t count = 0;
  if (!call.Read(0, name, sizeof name) || !call.Read(1, &handles, &count)) return nullptr;
  if (count < 2) return call.Fail(SystemError{EINVAL, "SYNC_IOC_MERGE"}), nullptr;
  std::vector<int> files;
  for (size_t index = 0; index < count; index++) {
    Handle* file = call.addon().handles->Find(static_cast<uint32_t>(handles[index]), HandleKind::kSyncFile);
    if (file == nullptr) return call.Fail("ERR_DMABUF_CLOSED"), nullptr;
    files.push_back(file->fd.get());
  }
  Result<UniqueFd> merged = MergeSyncFiles(name, files.data(), count);
  if (!merged) {
    for (size_t index = 0; index < count; index++) {
      if (!call.CheckIdentity(*call.addon().handles->Find(static_cast<uint32_t>(handles[index]))))
        return nullptr;
    }
    return call.Fail(merged.error()), nullptr;
  }
  // The kernel leaves out what has signalled, in error too. Looked at only now, so that what ended meanwhile
  // counts.
  int32_t failure = 0;
  for (size_t index = 0; index < count && failure == 0; index++) {
    const Result<int32_t> error = ErrorOfSyncFile(files[index]);
    if (!error) return call.Fail(error.error()), nullptr;
    failure = *error;
  }
  const napi_value handle = AddSyncFile(call, std::move(*merged));
  call.addon().registers[0] = failure;
  return handle;
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
