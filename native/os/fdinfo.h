#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "os/result.h"

namespace dmabuf::os {

// What /proc/<pid>/fdinfo/<fd> says of a dma-buf (Documentation/filesystems/proc.rst). The views point into
// the text that was parsed.
struct FdInfo {
  uint64_t inode = 0;  // 0 if the kernel does not print it (before 5.15)
  uint64_t size = 0;   // bytes
  uint64_t references = 0;
  uint64_t flags = 0;  // of open(2)
  std::string_view exporter;
  std::optional<std::string_view> name;  // untrusted bytes, newlines included
};

// JavaScript's largest safe integer: a larger figure could be confused with another one. The kernel's real
// figures are far below it.
constexpr uint64_t kMaxFigure = (uint64_t{1} << 53) - 1;

// Nothing when the text is not a dma-buf's, or has a larger figure.
std::optional<FdInfo> ParseFdInfo(std::string_view text);

// Whether the text is that of a path (O_PATH), which has no lines about the file.
bool IsPath(std::string_view fdinfo);

// The text of a file's fdinfo. A dma-buf's has fixed keys, an exporter's name and a name of 31 bytes; but the
// locks of the file (flock(2), fcntl(2)) stand before that, a line each, and their number has no limit.
struct FdInfoText {
  char bytes[1024];
  std::string more;  // all of it, if there is more
};

struct FdInfoPath {
  char text[64];
};
// /proc/<pid>/fdinfo/<fd>. `pid` 0 is the calling process.
FdInfoPath PathOfFdInfo(int pid, int fd);

// Whether the name of a process's file is that of a dma-buf, or may be: before Linux 5.3 there is no prefix.
// `pid` 0 is the calling process.
Result<bool> MayBeDmaBuf(int pid, int fd);

// Reads an open file, or the one at the path, from its start to its end.
Result<std::string_view> ReadFdInfo(int file, FdInfoText* text);
Result<std::string_view> ReadFdInfo(const FdInfoPath& path, FdInfoText* text);

}  // namespace dmabuf::os
