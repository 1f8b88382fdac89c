#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "js/functions.h"
#include "js/job.h"
#include "os/dma_buf.h"
#include "os/entrusted.h"
#include "os/file.h"
#include "os/file_kind.h"
#include "os/sync_file.h"

namespace dmabuf::js {
namespace {

napi_value AddSyncFile(Call& call, UniqueFd fd) {
  const Result<os::FileStatus> status = os::StatusOf(fd.get());
  if (!status) return call.Fail(status.error()), nullptr;
  return call.Yield(call.addon().handles->Add(HandleKind::kSyncFile, std::move(fd), *status));
}

napi_value IsReady(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kIfRefused, &handle) || !call.Read(1, &access))
    return nullptr;
  const Result<bool> ready = os::IsReady(handle->fd.get(), static_cast<os::CpuAccess>(access));
  return ready ? call.Boolean(*ready) : (call.Fail(ready.error()), nullptr);
}

napi_value Poll(Call& call) {
  Handle* handle = nullptr;
  uint32_t slot = 0;
  uint32_t access = 0;
  bool kept = false;
  if (!call.ReadAny(0, Identity::kAsked, &slot, &handle) || !call.Read(1, &access) || !call.Read(3, &kept)) {
    return nullptr;
  }
  const short event = os::PollEvent(static_cast<os::CpuAccess>(access));
  const Result<uint32_t> wait =
      call.addon().polls.Start(slot, handle->fd.get(), event, call.argument(2), kept);
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
  const Result<bool> is_sync_file = os::IsForeignSyncFile(fd);
  if (!is_sync_file) return call.Fail(is_sync_file.error()), nullptr;
  if (!*is_sync_file) return call.Number(int32_t{-1});
  if (take) {
    const Result<os::FileStatus> status = os::StatusOf(fd);
    if (!status) return call.Fail(status.error()), nullptr;
    const Result<void> marked = os::MarkCloseOnExec(fd);
    if (!marked) return call.Fail(marked.error()), nullptr;
    os::Redeem(fd);
    const uint32_t taken = call.addon().handles->Add(HandleKind::kSyncFile, UniqueFd(fd), *status);
    Share(*call.addon().handles->Find(taken), nullptr);
    return call.YieldTaken(taken);
  }
  Result<UniqueFd> copy = os::Duplicate(fd);
  if (!copy) return call.Fail(copy.error()), nullptr;
  const Result<os::FileStatus> status = os::StatusOf(copy->get());
  if (!status) return call.Fail(status.error()), nullptr;
  const uint32_t made = call.addon().handles->Add(HandleKind::kSyncFile, std::move(*copy), *status);
  Share(*call.addon().handles->Find(made), nullptr);
  return call.Yield(made);
}

napi_value ExportSyncFile(Call& call) {
  Handle* handle = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kAsked, &handle) || !call.Read(1, &access)) {
    return nullptr;
  }
  Result<UniqueFd> file = os::ExportSyncFile(handle->fd.get(), static_cast<os::CpuAccess>(access));
  if (!file) return call.Fail(file.error()), nullptr;
  return AddSyncFile(call, std::move(*file));
}

napi_value ImportSyncFile(Call& call) {
  Handle* buffer = nullptr;
  Handle* file = nullptr;
  uint32_t access = 0;
  if (!call.Read(0, HandleKind::kDmaBuf, Identity::kAsked, &buffer) ||
      !call.Read(1, HandleKind::kSyncFile, Identity::kAsked, &file) || !call.Read(2, &access)) {
    return nullptr;
  }
  const Result<void> imported =
      os::ImportSyncFile(buffer->fd.get(), file->fd.get(), static_cast<os::CpuAccess>(access));
  if (!imported) call.Fail(imported.error());
  return nullptr;
}

napi_value SyncFileStatus(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kSyncFile, Identity::kIfRefused, &handle)) return nullptr;
  const Result<int32_t> status = os::SyncFileStatus(handle->fd.get());
  return status ? call.Number(*status) : (call.Fail(status.error()), nullptr);
}

// Leaves what JavaScript needs about a sync_file and about as many fences as there was room for: numbers as
// pairs of status and timestamp bits, names in one string, separated by NUL, which no name contains. (With
// an array of single values, info() of one fence cost twice as much.) `names` has room for NameBytes().
napi_value LeaveInfo(Call& call, const os::SyncFileSummary& summary, const os::FenceInfo* fences, size_t room,
                     double* numbers, char* names) {
  call.addon().Leave(Register::kStatus, summary.status);
  call.addon().Leave(Register::kFenceCount, summary.fence_count);
  char* end = names;
  const auto append = [&end](const char* text) {
    const size_t bytes = strnlen(text, os::kFenceNameBytes);
    std::memcpy(end, text, bytes);
    end += bytes;
  };
  append(summary.name);
  const size_t count = summary.fence_count <= room ? summary.fence_count : 0;
  for (size_t index = 0; index < count; index++) {
    *end++ = '\0';
    append(fences[index].timeline);
    *end++ = '\0';
    append(fences[index].driver);
    numbers[2 * index] = fences[index].status;
    std::memcpy(&numbers[2 * index + 1], &fences[index].timestamp, sizeof(double));
  }
  return call.Text({names, static_cast<size_t>(end - names)});
}

constexpr size_t NameBytes(size_t fences) {
  return os::kFenceNameBytes + 2 * fences * (os::kFenceNameBytes + 1);
}

// As many as the registers have room for.
constexpr size_t kFewFences = 8;
static_assert(static_cast<uint32_t>(Register::kFences) + 2 * kFewFences <=
              static_cast<uint32_t>(Register::kHandles));

napi_value SyncFileInfo(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kSyncFile, Identity::kIfRefused, &handle)) return nullptr;
  os::FenceInfo fences[kFewFences];
  const Result<os::SyncFileSummary> summary = os::SyncFileInfo(handle->fd.get(), kFewFences, fences);
  if (!summary) return call.Fail(summary.error()), nullptr;
  char names[NameBytes(kFewFences)];
  return LeaveInfo(call, *summary, fences, kFewFences, call.addon().From(Register::kFences), names);
}

napi_value SyncFileInfoOfMany(Call& call) {
  Handle* handle = nullptr;
  double* numbers = nullptr;
  size_t length = 0;
  if (!call.Read(0, HandleKind::kSyncFile, Identity::kIfRefused, &handle) || !call.Read(1, &numbers, &length))
    return nullptr;
  std::vector<os::FenceInfo> fences(length / 2);
  const Result<os::SyncFileSummary> summary =
      os::SyncFileInfo(handle->fd.get(), static_cast<uint32_t>(fences.size()), fences.data());
  if (!summary) return call.Fail(summary.error()), nullptr;
  std::vector<char> names(NameBytes(fences.size()));
  return LeaveInfo(call, *summary, fences.data(), fences.size(), numbers, names.data());
}

// The errno of a fence that has ended in error, negative, else 0. A merge leaves out fences that have
// signalled, also those in error. Called after merging, so that fences that ended meanwhile count.
Result<int32_t> FirstError(const std::vector<int>& files) {
  for (const int file : files) {
    const Result<int32_t> error = os::ErrorOfSyncFile(file);
    if (!error || *error != 0) return error;
  }
  return 0;
}

napi_value MergeSyncFiles(Call& call) {
  char name[256];
  double* slots = nullptr;
  size_t count = 0;
  if (!call.Read(0, name, sizeof name) || !call.Read(1, &slots, &count)) return nullptr;
  if (count < 2) return call.Fail(SystemError{EINVAL, "SYNC_IOC_MERGE"}), nullptr;
  std::vector<int> files;
  for (size_t index = 0; index < count; index++) {
    Handle* file = call.addon().handles->Find(static_cast<uint32_t>(slots[index]), HandleKind::kSyncFile);
    if (file == nullptr) return call.Fail("ERR_DMABUF_CLOSED"), nullptr;
    files.push_back(file->fd.get());
  }
  Result<UniqueFd> merged = os::MergeSyncFiles(name, files.data(), count);
  if (!merged) {
    for (size_t index = 0; index < count; index++) {
      if (!call.CheckIdentity(*call.addon().handles->Find(static_cast<uint32_t>(slots[index]))))
        return nullptr;
    }
    return call.Fail(merged.error()), nullptr;
  }
  const Result<int32_t> failure = FirstError(files);
  if (!failure) return call.Fail(failure.error()), nullptr;
  const napi_value slot = AddSyncFile(call, std::move(*merged));
  call.addon().Leave(Register::kFailure, *failure);
  return slot;
}

// Merges copies of descriptors, since the files may be closed meanwhile.
class MergeJob : public Job {
 public:
  MergeJob(AddonData* addon, std::string name, std::vector<UniqueFd> files)
      : addon_(addon), name_(std::move(name)), files_(std::move(files)) {}

  void Run() override { outcome_.emplace(Merge()); }

  void Finish(napi_env env, napi_value* first, napi_value* second) override {
    if (!*outcome_) return FinishWith(env, outcome_->error(), first, second);
    Merged& merged = **outcome_;
    const uint32_t slot = addon_->handles->Add(HandleKind::kSyncFile, std::move(merged.file), merged.status);
    addon_->unclaimed->Reclaim();
    addon_->unclaimed->AddSlot(slot);
    addon_->Leave(Register::kFailure, merged.failure);
    napi_create_uint32(env, slot, first);
    napi_get_undefined(env, second);
  }

 private:
  struct Merged {
    UniqueFd file;
    os::FileStatus status;
    int32_t failure;
  };

  Result<Merged> Merge() const {
    std::vector<int> files;
    for (const UniqueFd& file : files_) files.push_back(file.get());
    Result<UniqueFd> merged = os::MergeSyncFiles(name_.c_str(), files.data(), files.size());
    if (!merged) return merged.error();
    const Result<int32_t> failure = FirstError(files);
    if (!failure) return failure.error();
    const Result<os::FileStatus> status = os::StatusOf(merged->get());
    if (!status) return status.error();
    return Merged{std::move(*merged), *status, *failure};
  }

  AddonData* addon_;
  std::string name_;
  std::vector<UniqueFd> files_;
  std::optional<Result<Merged>> outcome_;
};

napi_value MergeSyncFilesAsync(Call& call) {
  char name[256];
  double* slots = nullptr;
  size_t count = 0;
  if (!call.Read(0, name, sizeof name) || !call.Read(1, &slots, &count)) return nullptr;
  if (count < 2) return call.Fail(SystemError{EINVAL, "SYNC_IOC_MERGE"}), nullptr;
  std::vector<UniqueFd> files;
  for (size_t index = 0; index < count; index++) {
    Handle* file = call.addon().handles->Find(static_cast<uint32_t>(slots[index]), HandleKind::kSyncFile);
    if (file == nullptr) return call.Fail("ERR_DMABUF_CLOSED"), nullptr;
    if (!call.CheckIdentity(*file)) return nullptr;
    Result<UniqueFd> copy = os::Duplicate(file->fd.get());
    if (!copy) return call.Fail(copy.error()), nullptr;
    files.push_back(std::move(*copy));
  }
  QueueJob(call, "dmabuf.merge", std::make_unique<MergeJob>(&call.addon(), name, std::move(files)),
           call.argument(2));
  return nullptr;
}

napi_value SetDeadline(Call& call) {
  Handle* handle = nullptr;
  uint64_t deadline = 0;
  if (!call.Read(0, HandleKind::kSyncFile, Identity::kAsked, &handle) || !call.ReadBigInt(1, &deadline)) {
    return nullptr;
  }
  const Result<void> set = os::SetDeadline(handle->fd.get(), deadline);
  if (!set) call.Fail(set.error());
  return nullptr;
}

}  // namespace

const Exports kFenceFunctions = {
    {"isReady", Entry<IsReady, 2>},
    {"poll", Entry<Poll, 4>},
    {"waitOnThread", Entry<WaitOnThread, 0>},
    {"cancelPoll", Entry<CancelPoll, 1>},
    {"importSyncFileFd", Entry<ImportSyncFileFd, 2>},
    {"exportSyncFile", Entry<ExportSyncFile, 2>},
    {"importSyncFile", Entry<ImportSyncFile, 3>},
    {"syncFileStatus", Entry<SyncFileStatus, 1>},
    {"syncFileInfo", Entry<SyncFileInfo, 1>},
    {"syncFileInfoOfMany", Entry<SyncFileInfoOfMany, 2>},
    {"mergeSyncFiles", Entry<MergeSyncFiles, 2>},
    {"mergeSyncFilesAsync", Entry<MergeSyncFilesAsync, 3>},
    {"setDeadline", Entry<SetDeadline, 2>},
};

}  // namespace dmabuf::js
