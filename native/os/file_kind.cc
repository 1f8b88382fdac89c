#include "os/file_kind.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "os/sync_file.h"
#include "os/uapi.h"

namespace dmabuf::os {
namespace {

#ifndef ANON_INODE_FS_MAGIC
#define ANON_INODE_FS_MAGIC 0x09041934
#endif

// For a file without a type: it belongs to the kernel, which answers.
Result<FileKind> KindOf(int fd, dev_t device) {
  // The file system of all dma-bufs is mounted at boot and never again, so its device number is a constant of
  // the running kernel; 0 until the first dma-buf was seen.
  static std::atomic<dev_t> dma_buf_device{0};
  if (device == dma_buf_device.load(std::memory_order_relaxed)) return FileKind::kDmaBuf;
  struct statfs status;
  if (::fstatfs(fd, &status) < 0) return SystemError{errno, "fstatfs"};
  const auto magic = static_cast<uint32_t>(status.f_type);
  if (magic == DMA_BUF_MAGIC) {
    dma_buf_device.store(device, std::memory_order_relaxed);
    return FileKind::kDmaBuf;
  }
  if (magic != ANON_INODE_FS_MAGIC) return FileKind::kOther;
  const Result<bool> is_sync_file = IsSyncFile(fd);
  return is_sync_file && *is_sync_file ? FileKind::kSyncFile : FileKind::kOther;
}

}  // namespace

Result<ForeignStatus> StatusWithoutServer(int fd) {
  struct statx status;
  if (Statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &status) < 0) {
    return SystemError{errno, "statx"};
  }
  return ForeignStatus{{{makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino},
                        status.stx_size,
                        S_ISCHR(status.stx_mode),
                        makedev(status.stx_rdev_major, status.stx_rdev_minor)},
                       static_cast<unsigned>(status.stx_mode) & S_IFMT,
                       status.stx_blocks};
}

Result<FileKind> KindOfForeignFile(int fd, const ForeignStatus& status) {
  // A file system that a process serves has no files without a type.
  if (status.type != 0) return FileKind::kOther;
  const Result<FileKind> kind = KindOf(fd, status.file.identity.device);
  if (!kind || *kind == FileKind::kOther) return kind;
  // With O_PATH it is only a dma-buf's name, which cannot be used.
  const Result<bool> path_only = IsPathOnly(fd);
  return path_only && !*path_only ? *kind : FileKind::kOther;
}

Result<FileDescription> DescribeForeignFile(int fd) {
  const Result<ForeignStatus> status = StatusWithoutServer(fd);
  // The inspection of another user's FUSE file may be refused; that of a dma-buf never is.
  if (!status && status.error().number == EACCES) return FileDescription{FileKind::kOther, {}};
  if (!status) return status.error();
  const Result<FileKind> kind = KindOfForeignFile(fd, *status);
  if (!kind) return kind.error();
  return FileDescription{*kind, status->file};
}

Result<bool> IsForeignSyncFile(int fd) {
  const Result<ForeignStatus> status = StatusWithoutServer(fd);
  // The inspection of another user's FUSE file may be refused.
  if (!status && status.error().number != EACCES) return status.error();
  const Result<bool> path_only = IsPathOnly(fd);
  if (path_only && *path_only) return SystemError{EBADF, "SYNC_IOC_FILE_INFO"};
  // A process may serve a file that has a type, and never answer.
  if (!status || status->type != 0) return false;
  return IsSyncFile(fd);
}

}  // namespace dmabuf::os
