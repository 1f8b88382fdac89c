#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "os/result.h"

namespace dmabuf {

// What /proc/<pid>/fdinfo/<fd> says of a dma-buf (Documentation/filesystems/proc.rst). The views point into
// the text that was parsed.
struct FdInfo {
  uint64_t inode = 0;  // 0 where the kernel does not print it (before 5.15)
  uint64_t size = 0;   // bytes
  uint64_t references = 0;
  uint64_t flags = 0;  // of open(2)
  std::string_view exporter;
  std::optional<std::string_view> name;  // untrusted bytes, newlines included
};

// Nothing when the text is not a dma-buf's.
std::optional<FdInfo> ParseFdInfo(std::string_view text);

// Room for the fdinfo of any dma-buf: fixed keys, an exporter's name and a name of 31 bytes.
constexpr size_t kFdInfoCapacity = 1024;

struct FdInfoPath {
  char text[64];
};
// /proc/<pid>/fdinfo/<fd>. `pid` 0 is the calling process.
FdInfoPath PathOfFdInfo(int pid, int fd);

// Reads the file into `buffer`, of kFdInfoCapacity bytes.
Result<std::string_view> ReadFdInfo(const FdInfoPath& path, char* buffer);

}  // namespace dmabuf
