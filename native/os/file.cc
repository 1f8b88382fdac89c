#include "os/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "os/retry.h"

namespace dmabuf::os {

Result<UniqueFd> OpenForReading(const char* path) {
  const int fd = Retry([&] { return ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); });
  if (fd < 0) return SystemError{errno, "open"};
  return UniqueFd(fd);
}

Result<UniqueFd> OpenAt(int folder, const char* path, int flags) {
  const int fd = Retry([&] { return ::openat(folder, path, flags | O_CLOEXEC | O_NOCTTY); });
  if (fd < 0) return SystemError{errno, "openat"};
  return UniqueFd(fd);
}

Result<FileStatus> StatusOf(int fd) {
  // The C library may make this newfstatat(2) with an empty path, which costs twice as much.
  struct stat status;
#if defined(SYS_fstat) && (defined(__x86_64__) || defined(__aarch64__))
  const long result = ::syscall(SYS_fstat, fd, &status);
#else
  const int result = ::fstat(fd, &status);
#endif
  if (result < 0) return SystemError{errno, "fstat"};
  return FileStatus{{status.st_dev, status.st_ino},
                    static_cast<uint64_t>(status.st_size),
                    S_ISCHR(status.st_mode),
                    status.st_rdev};
}

int Statx(int folder, const char* path, int flags, unsigned mask, struct statx* status) {
  return static_cast<int>(::syscall(SYS_statx, folder, path, flags, mask, status));
}

Result<UniqueFd> Duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return SystemError{errno, "fcntl"};
  return UniqueFd(copy);
}

Result<void> MarkCloseOnExec(int fd) {
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return SystemError{errno, "fcntl"};
  return {};
}

Result<int> AccessModeOf(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return SystemError{errno, "fcntl"};
  return flags & O_ACCMODE;
}

Result<bool> IsPathOnly(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return SystemError{errno, "fcntl"};
  return (flags & O_PATH) != 0;
}

size_t FreeDescriptors() {
  rlimit limit;
  struct statx status;
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0) return 0;
  if (Statx(AT_FDCWD, "/proc/self/fd", AT_STATX_DONT_SYNC, STATX_SIZE, &status) < 0) return 0;
  if (status.stx_size == 0 || status.stx_size >= limit.rlim_cur) return 0;
  return static_cast<size_t>(limit.rlim_cur - status.stx_size);
}

Result<size_t> ReadAll(int fd, char* buffer, size_t capacity) {
  size_t length = 0;
  while (length < capacity) {
    const ssize_t count = Retry([&] { return ::read(fd, buffer + length, capacity - length); });
    if (count < 0) return SystemError{errno, "read"};
    if (count == 0) break;
    length += static_cast<size_t>(count);
  }
  return length;
}

Result<size_t> ReadSmallFile(const char* path, char* buffer, size_t capacity) {
  const Result<UniqueFd> file = OpenForReading(path);
  if (!file) return file.error();
  return ReadAll(file->get(), buffer, capacity);
}

Result<std::string> ReadWhole(const char* path) {
  const Result<UniqueFd> file = OpenForReading(path);
  if (!file) return file.error();
  std::string text;
  size_t length = 0;
  while (length == text.size()) {
    text.resize(text.empty() ? 4096 : 2 * text.size());
    const Result<size_t> count = ReadAll(file->get(), text.data() + length, text.size() - length);
    if (!count) return count.error();
    length += *count;
  }
  text.resize(length);
  return text;
}

}  // namespace dmabuf::os
