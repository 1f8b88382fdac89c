#include "os/device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string_view>

#include "os/file.h"

namespace dmabuf::os {
namespace {

// By sysfs: heaps have a class of their own, udmabuf is one of the miscellaneous devices and known by its
// name.
bool IsDeviceOf(DeviceKind kind, unsigned major_number, unsigned minor_number) {
  const bool is_heap = kind == DeviceKind::kHeap;
  char path[64];
  std::snprintf(path, sizeof path, "/sys/dev/char/%u:%u%s", major_number, minor_number,
                is_heap ? "/subsystem" : "");
  char target[256];
  const ssize_t length = ::readlink(path, target, sizeof target);
  if (length < 0) return true;
  const std::string_view link(target, static_cast<size_t>(length));
  return link.substr(link.rfind('/') + 1) == (is_heap ? "dma_heap" : "udmabuf");
}

// Times are as coarse as the kernel's clock ticks, and on some file systems a second.
constexpr int64_t kSecondsToSettle = 2;

}  // namespace

Result<UniqueFd> OpenDevice(const char* path, DeviceKind kind) {
  const SystemError other{ENOTTY, "open"};
  struct statx seen;
  // What keeps it from being looked at keeps it from being opened, with the same errno.
  const bool is_seen = Statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE, &seen) == 0;
  if (is_seen && (!S_ISCHR(seen.stx_mode) || !IsDeviceOf(kind, seen.stx_rdev_major, seen.stx_rdev_minor))) {
    return other;
  }
  Result<UniqueFd> fd = OpenForReading(path);
  if (!fd) return fd.error();
  // Something else may lie there by now.
  const Result<FileStatus> status = StatusOf(fd->get());
  if (!status) return status.error();
  if (!status->is_character_device) return other;
  const dev_t device = status->device_number;
  const bool is_same = is_seen && device == makedev(seen.stx_rdev_major, seen.stx_rdev_minor);
  if (!is_same && !IsDeviceOf(kind, major(device), minor(device))) return other;
  return fd;
}

bool IsStillAt(const char* path, int fd) {
  const Result<FileStatus> open = StatusOf(fd);
  struct statx seen;
  return open && ::faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0 &&
         Statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &seen) == 0 &&
         open->identity == FileIdentity{makedev(seen.stx_dev_major, seen.stx_dev_minor), seen.stx_ino};
}

std::optional<std::string> StampOfFolder(const char* path) {
  struct statx seen;
  if (Statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO | STATX_MTIME, &seen) < 0) {
    return errno == ENOENT ? std::make_optional<std::string>() : std::nullopt;
  }
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  if (seen.stx_mtime.tv_sec >= now.tv_sec - kSecondsToSettle) return std::nullopt;
  char stamp[96];
  const int length =
      std::snprintf(stamp, sizeof stamp, "%x:%x %llx %llx.%x", seen.stx_dev_major, seen.stx_dev_minor,
                    seen.stx_ino, seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec);
  return std::string(stamp, static_cast<size_t>(length));
}

}  // namespace dmabuf::os
