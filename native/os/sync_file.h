#pragma once

#include <cstddef>
#include <cstdint>

#include "os/dma_buf.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// DMA_BUF_IOCTL_EXPORT_SYNC_FILE (Linux 6.0): a snapshot of the fences that an access of that direction would
// have to wait for.
Result<UniqueFd> ExportSyncFile(int buffer, CpuAccess access);
// DMA_BUF_IOCTL_IMPORT_SYNC_FILE (Linux 6.0): adds the fences to the buffer, as a reader's or a writer's.
Result<void> ImportSyncFile(int buffer, int sync_file, CpuAccess access);

// Whether a descriptor is a sync_file's, by its name in procfs, which the kernel sets. SYNC_IOC_FILE_INFO is
// not sent to files of other kinds: a perf event takes its lock first, which another process may hold for
// ever. Only without procfs is it sent to any file; some refuse the contents of the request (EINVAL, as
// epoll does), which a sync_file does not.
Result<bool> IsSyncFile(int fd);

// SYNC_IOC_FILE_INFO: the state of all fences together: 1 signalled, 0 active, negative errno.
Result<int32_t> SyncFileStatus(int sync_file);

// Names from the kernel, with a NUL if they are shorter.
constexpr size_t kFenceNameBytes = 32;

// One fence, laid out as the kernel's struct sync_fence_info.
struct FenceInfo {
  char timeline[kFenceNameBytes];
  char driver[kFenceNameBytes];
  int32_t status;  // as SyncFileStatus()
  uint32_t flags;
  uint64_t timestamp;  // CLOCK_MONOTONIC nanoseconds
};

struct SyncFileSummary {
  char name[kFenceNameBytes];
  int32_t status;
  uint32_t fence_count;
};

// SYNC_IOC_FILE_INFO with every fence. If `capacity` is too small for them, the summary has their number and
// no fence is described.
Result<SyncFileSummary> SyncFileInfo(int sync_file, uint32_t capacity, FenceInfo* fences);

// SYNC_IOC_MERGE: a new sync_file that signals when all of two or more have. `name`: at most kMaxNameBytes
// bytes. Merged in halves: the kernel walks the fences of both files each time, so that one after the other
// takes the square of their number. A few descriptors are open meanwhile, the logarithm of the count.
Result<UniqueFd> MergeSyncFiles(const char* name, const int* sync_files, size_t count);
// SYNC_IOC_FILE_INFO: the negative errno of a fence that has ended in error, else 0.
Result<int32_t> ErrorOfSyncFile(int sync_file);
// SYNC_IOC_SET_DEADLINE (Linux 6.4): CLOCK_MONOTONIC nanoseconds, a hint to the drivers.
Result<void> SetDeadline(int sync_file, uint64_t deadline);

}  // namespace dmabuf::os
