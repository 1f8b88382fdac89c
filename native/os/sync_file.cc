#include "os/sync_file.h"

#include <linux/sync_file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "os/retry.h"
#include "os/uapi.h"

namespace dmabuf::os {

Result<UniqueFd> ExportSyncFile(int buffer, CpuAccess access) {
  dma_buf_export_sync_file request{};
  request.flags = static_cast<uint32_t>(access);
  request.fd = -1;
  if (RetryIoctl(buffer, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request) < 0) {
    return SystemError{errno, "DMA_BUF_IOCTL_EXPORT_SYNC_FILE"};
  }
  return UniqueFd(request.fd);
}

Result<void> ImportSyncFile(int buffer, int sync_file, CpuAccess access) {
  dma_buf_import_sync_file request{};
  request.flags = static_cast<uint32_t>(access);
  request.fd = sync_file;
  if (RetryIoctl(buffer, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &request) < 0) {
    return SystemError{errno, "DMA_BUF_IOCTL_IMPORT_SYNC_FILE"};
  }
  return {};
}

Result<bool> IsSyncFile(int fd) {
  char path[64];
  char target[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(path, target, sizeof target);
  const std::string_view name(target, length > 0 ? static_cast<size_t>(length) : 0);
  if (length >= 0 && name != "anon_inode:sync_file") return false;
  const Result<int32_t> status = SyncFileStatus(fd);
  if (status) return true;
  if (status.error().number == ENOTTY) return false;
  if (status.error().number == EINVAL && length < 0) return false;
  return status.error();
}

Result<int32_t> SyncFileStatus(int sync_file) {
  sync_file_info info{};
  if (RetryIoctl(sync_file, SYNC_IOC_FILE_INFO, &info) < 0) return SystemError{errno, "SYNC_IOC_FILE_INFO"};
  return info.status;
}

static_assert(sizeof(FenceInfo) == sizeof(sync_fence_info));
static_assert(offsetof(FenceInfo, driver) == offsetof(sync_fence_info, driver_name));
static_assert(offsetof(FenceInfo, status) == offsetof(sync_fence_info, status));
static_assert(offsetof(FenceInfo, timestamp) == offsetof(sync_fence_info, timestamp_ns));

Result<SyncFileSummary> SyncFileInfo(int sync_file, uint32_t capacity, FenceInfo* fences) {
  sync_file_info info{};
  info.num_fences = capacity;
  info.sync_fence_info = reinterpret_cast<uintptr_t>(fences);
  int result = RetryIoctl(sync_file, SYNC_IOC_FILE_INFO, &info);
  if (result < 0 && errno == EINVAL) {
    // There are more. Without room for any the kernel says how many.
    info = {};
    result = RetryIoctl(sync_file, SYNC_IOC_FILE_INFO, &info);
  }
  if (result < 0) return SystemError{errno, "SYNC_IOC_FILE_INFO"};
  SyncFileSummary summary;
  std::memcpy(summary.name, info.name, sizeof summary.name);
  summary.status = info.status;
  summary.fence_count = info.num_fences;
  return summary;
}

namespace {

Result<UniqueFd> MergeTwo(const char* name, int first, int second) {
  sync_merge_data request{};
  std::snprintf(request.name, sizeof request.name, "%s", name);
  request.fd2 = second;
  if (RetryIoctl(first, SYNC_IOC_MERGE, &request) < 0) return SystemError{errno, "SYNC_IOC_MERGE"};
  return UniqueFd(request.fence);
}

}  // namespace

Result<UniqueFd> MergeSyncFiles(const char* name, const int* sync_files, size_t count) {
  const size_t half = count / 2;
  const size_t rest = count - half;
  UniqueFd left;
  UniqueFd right;
  if (half > 1) {
    Result<UniqueFd> merged = MergeSyncFiles(name, sync_files, half);
    if (!merged) return merged.error();
    left = std::move(*merged);
  }
  if (rest > 1) {
    Result<UniqueFd> merged = MergeSyncFiles(name, sync_files + half, rest);
    if (!merged) return merged.error();
    right = std::move(*merged);
  }
  return MergeTwo(name, left.valid() ? left.get() : sync_files[0],
                  right.valid() ? right.get() : sync_files[half]);
}

Result<int32_t> ErrorOfSyncFile(int sync_file) {
  std::vector<FenceInfo> fences(8);
  for (;;) {
    const Result<SyncFileSummary> summary =
        SyncFileInfo(sync_file, static_cast<uint32_t>(fences.size()), fences.data());
    if (!summary) return summary.error();
    if (summary->fence_count > fences.size()) {
      fences.resize(summary->fence_count);
      continue;
    }
    for (size_t index = 0; index < summary->fence_count; index++) {
      if (fences[index].status < 0) return fences[index].status;
    }
    return summary->status < 0 ? summary->status : 0;
  }
}

Result<void> SetDeadline(int sync_file, uint64_t deadline) {
  SyncDeadline request{deadline, 0};
  if (RetryIoctl(sync_file, kSetDeadline, &request) < 0) return SystemError{errno, "SYNC_IOC_SET_DEADLINE"};
  return {};
}

}  // namespace dmabuf::os
