#include "os/memory.h"

#include <sys/sysinfo.h>

#include <cerrno>
#include <string_view>

#include "os/file.h"
#include "os/parse.h"

namespace dmabuf::os {
namespace {

// The value of "<key>:   <number> kB" in bytes.
std::optional<uint64_t> ValueOf(std::string_view text, std::string_view key) {
  size_t line = 0;
  while (line < text.size()) {
    size_t end = text.find('\n', line);
    if (end == std::string_view::npos) break;
    if (text.compare(line, key.size(), key) == 0) {
      std::string_view value = text.substr(line + key.size());
      SkipSpaces(&value);
      return TakeNumber(&value).value_or(0) * 1024;
    }
    line = end + 1;
  }
  return std::nullopt;
}

}  // namespace

MachineMemory ReadMachineMemory() {
  struct sysinfo info;
  if (::sysinfo(&info) < 0) return {};
  const uint64_t unit = info.mem_unit;
  return {info.freeram * unit, info.totalram * unit};
}

Result<MemoryInfo> ReadMemoryInfo() {
  char text[8192];
  const Result<size_t> length = ReadSmallFile("/proc/meminfo", text, sizeof text);
  if (!length) return length.error();
  const std::string_view view(text, *length);
  const std::optional<uint64_t> available = ValueOf(view, "MemAvailable:");
  if (!available) return SystemError{ENODATA, "read"};
  const uint64_t file_cache =
      ValueOf(view, "Active(file):").value_or(0) + ValueOf(view, "Inactive(file):").value_or(0);
  return MemoryInfo{*available, file_cache, ValueOf(view, "CmaTotal:"), ValueOf(view, "CmaFree:")};
}

}  // namespace dmabuf::os
