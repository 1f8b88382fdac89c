#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// Which file a descriptor refers to. Two descriptors with equal identity share one file's inode: for a
// dma-buf that is one buffer.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;

  bool operator==(const FileIdentity& other) const { return device == other.device && inode == other.inode; }
};

struct FileStatus {
  FileIdentity identity;
  uint64_t size;  // bytes
  bool is_character_device;
  dev_t device_number;  // of a character device
};

// open(2) with O_RDONLY | O_CLOEXEC | O_NONBLOCK: a FIFO by mistake must not block the caller.
Result<UniqueFd> OpenForReading(const char* path);
// openat(2), close-on-exec.
Result<UniqueFd> OpenAt(int folder, const char* path, int flags = O_RDONLY);
// fstat(2).
Result<FileStatus> StatusOf(int fd);
// statx(2), Linux 4.11. By its number: musl has a function for it only since 1.2.5.
int Statx(int folder, const char* path, int flags, unsigned mask, struct statx* status);
// fcntl(2) F_DUPFD_CLOEXEC.
Result<UniqueFd> Duplicate(int fd);
// fcntl(2) F_SETFD, FD_CLOEXEC.
Result<void> MarkCloseOnExec(int fd);
// fcntl(2) F_GETFL: the access mode, one of O_RDONLY, O_WRONLY, O_RDWR.
Result<int> AccessModeOf(int fd);
// fcntl(2) F_GETFL: whether it was opened with O_PATH, and so stands only for a file's name.
Result<bool> IsPathOnly(int fd);
// How many more descriptors this process may open, by RLIMIT_NOFILE and the size of /proc/self/fd (Linux
// 6.2); 0 if the kernel does not say.
size_t FreeDescriptors();
// Reads at most `capacity` bytes from the file's position, up to its end.
Result<size_t> ReadAll(int fd, char* buffer, size_t capacity);
// Reads at most `capacity` bytes of the small file at `path` (procfs, sysfs) from its start.
Result<size_t> ReadSmallFile(const char* path, char* buffer, size_t capacity);
// Reads the file at `path` (debugfs, sysfs) from its start to its end.
Result<std::string> ReadWhole(const char* path);

}  // namespace dmabuf::os
