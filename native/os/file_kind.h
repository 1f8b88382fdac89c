#pragma once

#include <cstdint>
#include <vector>

#include "os/file.h"
#include "os/result.h"

namespace dmabuf {

enum class FileKind : uint8_t { kOther, kDmaBuf, kSyncFile };

struct FileDescription {
  FileKind kind;
  FileStatus status;
};

// What a descriptor from another process is. Whoever sent it may serve its file system (FUSE, CUSE, NFS),
// where fstat(2), fstatfs(2) or an ioctl waits for as long as the server likes; so this asks the kernel's own
// memory only (statx(2) with AT_STATX_DONT_SYNC, Linux 4.11), and sends an ioctl to files without a file
// system alone.
Result<FileDescription> DescribeForeignFile(int fd);

// Closes strangers' descriptors. close(2) asks a file's file system (FUSE, NFS), which may never answer:
// files that have one are closed on a thread of their own.
void CloseForeignFiles(const std::vector<int>& fds);

}  // namespace dmabuf
