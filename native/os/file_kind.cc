#include "os/file_kind.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>

#include "os/dma_buf.h"
#include "os/fdinfo.h"
#include "os/sync_file.h"

namespace dmabuf {
namespace {

bool NoDescriptorLeft(int error) { return error == EMFILE || error == ENFILE; }

// The file system of all dma-bufs is mounted at boot and never again, so its device number is a constant of
// the running kernel; 0 until the first dma-buf was seen. Only the kernel writes `exp_name` into an fdinfo.
Result<bool> IsOnDmaBufDevice(int fd, dev_t device) {
  static std::atomic<dev_t> dma_buf_device{0};
  const dev_t known = dma_buf_device.load(std::memory_order_relaxed);
  if (known != 0) return device == known;
  FdInfoText text;
  const Result<std::string_view> fdinfo = ReadFdInfo(PathOfFdInfo(0, fd), &text);
  if (!fdinfo && NoDescriptorLeft(fdinfo.error().number)) return fdinfo.error();
  if (!fdinfo) return IsDmaBuf(fd);  // no procfs here
  if (!ParseFdInfo(*fdinfo)) return false;
  dma_buf_device.store(device, std::memory_order_relaxed);
  return true;
}

// Of the files that have no file system: eventfds, epolls, sync_files, ...
Result<bool> IsOnAnonymousDevice(dev_t device) {
  static std::atomic<dev_t> anonymous_device{0};
  dev_t known = anonymous_device.load(std::memory_order_relaxed);
  if (known == 0) {
    const UniqueFd any(::eventfd(0, EFD_CLOEXEC));
    if (!any.valid()) return SystemError{errno, "eventfd"};
    const Result<FileStatus> status = CachedStatusOf(any.get());
    if (!status) return status.error();
    known = status->identity.device;
    anonymous_device.store(known, std::memory_order_relaxed);
  }
  return device == known;
}

// Whether the file may belong to a file system that somebody serves: sockets, pipes and what has no type do
// not.
bool MayHaveServer(int fd) {
  struct statx status;
  if (Statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0) return true;
  const unsigned type = status.stx_mode & S_IFMT;
  return type != 0 && type != S_IFSOCK && type != S_IFIFO && type != S_IFCHR;
}

void* CloseAll(void* argument) {
  const std::unique_ptr<std::vector<int>> fds(static_cast<std::vector<int>*>(argument));
  for (const int fd : *fds) ::close(fd);
  return nullptr;
}

}  // namespace

void CloseForeignFiles(const std::vector<int>& fds) {
  auto elsewhere = std::make_unique<std::vector<int>>();
  for (const int fd : fds) {
    if (MayHaveServer(fd)) {
      elsewhere->push_back(fd);
    } else {
      ::close(fd);
    }
  }
  if (elsewhere->empty()) return;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  auto* argument = elsewhere.release();
  if (pthread_create(&thread, &attributes, CloseAll, argument) != 0) CloseAll(argument);
  pthread_attr_destroy(&attributes);
}

Result<FileDescription> DescribeForeignFile(int fd) {
  const Result<FileStatus> status = CachedStatusOf(fd);
  // Somebody else's FUSE may not even be looked at; a dma-buf always may.
  if (!status) return FileDescription{FileKind::kOther, {}};
  const dev_t device = status->identity.device;
  FileDescription description{FileKind::kOther, *status};
  if (major(device) != 0) return description;
  const Result<bool> is_anonymous = IsOnAnonymousDevice(device);
  if (!is_anonymous) return is_anonymous.error();
  if (*is_anonymous) {
    if (SyncFileStatus(fd)) description.kind = FileKind::kSyncFile;
    return description;
  }
  const Result<bool> is_dma_buf = IsOnDmaBufDevice(fd, device);
  if (!is_dma_buf) return is_dma_buf.error();
  // With O_PATH it is a dma-buf's name, and nothing that can be used.
  if (*is_dma_buf && (::fcntl(fd, F_GETFL) & O_PATH) == 0) description.kind = FileKind::kDmaBuf;
  return description;
}

}  // namespace dmabuf
