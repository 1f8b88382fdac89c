#pragma once

#include <cstdint>

#include "os/file.h"
#include "os/result.h"

namespace dmabuf::os {

// What statx(2) says without asking the file's server, which may be another process (FUSE, CUSE, NFS) and
// never answer (AT_STATX_DONT_SYNC, Linux 4.11).
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

// What a descriptor from another process is. Whoever sent it may serve its file system, where fstat(2),
// fstatfs(2) or an ioctl waits for as long as the server likes; so this asks the kernel's own memory only,
// and sends an ioctl to files without a file system alone. EBADF for what is not open.
Result<FileDescription> DescribeForeignFile(int fd);
// The same of one that was looked at already.
Result<FileKind> KindOfForeignFile(int fd, const ForeignStatus& status);

// Whether such a descriptor is a sync_file's. EBADF of the ioctl for a path (O_PATH), whatever it leads to.
Result<bool> IsForeignSyncFile(int fd);

}  // namespace dmabuf::os
