#pragma once

#include <cstdint>

#include "os/file.h"
#include "os/result.h"

namespace dmabuf::os {

// What statx(2) says without a request to the file's server, which may be another process (FUSE, CUSE, NFS)
// and never answer (AT_STATX_DONT_SYNC, Linux 4.11).
struct ForeignStatus {
  FileStatus file;
  unsigned type;    // S_IFMT's part of the mode; 0 for files of the kernel's own that have none
  uint64_t blocks;  // of 512 bytes, in use
};
Result<ForeignStatus> StatusWithoutServer(int fd);

enum class FileKind : uint8_t { kOther, kDmaBuf, kSyncFile };

struct FileDescription {
  FileKind kind;
  FileStatus status;
};

// Finds out what a descriptor from another process is. Its sender may serve its file system, where fstat(2),
// fstatfs(2) or an ioctl would wait for the server; so this only queries the kernel's own memory, and sends
// an ioctl only to files without a file system. EBADF if it is not open.
Result<FileDescription> DescribeForeignFile(int fd);
// The same for a descriptor that was already inspected.
Result<FileKind> KindOfForeignFile(int fd, const ForeignStatus& status);

// Whether such a descriptor is a sync_file's. EBADF of the ioctl for a path (O_PATH), wherever it leads.
Result<bool> IsForeignSyncFile(int fd);

}  // namespace dmabuf::os
