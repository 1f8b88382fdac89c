#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "os/fdinfo.h"
#include "os/file.h"
#include "os/hung_processes.h"
#include "os/process_scanner.h"

namespace dmabuf::os {
namespace {

// The reason why no call may be made that might never return, if there is one.
Result<void> MayLook(Watch* watch, int pid, int thread, Survey::Secret what) {
  if (HasHung(pid, what)) return SystemError{ETIMEDOUT, "read"};
  const bool is_own = pid == ::getpid();
  if (watch == nullptr || (!is_own && HasHungTooMany(thread))) return SystemError{EAGAIN, "pthread_create"};
  return {};
}

}  // namespace

Result<void> ProcessScanner::ScanDescriptors(Watch* watch, int pid, int thread, bool* has_seen) {
  const Result<UniqueFd> folder = OpenAt(thread, "fd", O_RDONLY | O_DIRECTORY);
  if (!folder) return folder.error();
  std::vector<DescriptorLook> looks;
  const auto look = [&] { return AddDescriptors(watch, pid, thread, std::exchange(looks, {})); };
  const Result<void> listed = ForEachNumber(folder->get(), [&](int fd, const char* name) -> Result<void> {
    *has_seen = true;
    // The kernel's own memory says where a link leads. Calls that follow the link (stat, statfs, open) may
    // need an answer of a server.
    char target[kPrefix.size()];
    const ssize_t length = ::readlinkat(folder->get(), name, target, sizeof target);
    if (length < 0) {
      // A dma-buf's path is never so long.
      if (IsGone(errno) || errno == ENAMETOOLONG) return {};
      return SystemError{errno, "readlink"};
    }
    if (std::string_view(target, static_cast<size_t>(length)) != kPrefix) return {};
    looks.emplace_back().fd = fd;
    return looks.size() < kMostLooks ? Result<void>() : look();
  });
  return listed && !looks.empty() ? look() : listed;
}

Result<void> ProcessScanner::AddDescriptors(Watch* watch, int pid, int thread,
                                            std::vector<DescriptorLook> looks) {
  if (device_ == 0) {
    for (DescriptorLook& look : looks) look.wants_status = true;
  }
  const Result<void> may = MayLook(watch, pid, thread, Survey::Secret::kDescriptors);
  if (!may) return may;
  const auto looked = Within(watch, [&] { return LookAtDescriptors(thread, pid, &looks); });
  if (!looked) return kLeftBehind;
  if (!*looked) return UnlessGone(looked->error());
  for (const DescriptorLook& look : looks) {
    const Result<void> added = AddDescriptor(pid, look);
    if (!added) return added;
  }
  return {};
}

// A path (O_PATH) keeps the file, but has no fdinfo of it. Only files of the kernel have no type.
Result<void> ProcessScanner::AddPath(int pid, const struct statx& status) {
  if ((status.stx_mode & S_IFMT) != 0 || status.stx_dev_major != 0) return {};
  if (status.stx_ino > kMaxFigure || status.stx_size > kMaxFigure) {
    return Refuse(pid, {EOVERFLOW, "statx"}, Survey::Secret::kDescriptors);
  }
  Held held{pid, makedev(0, status.stx_dev_minor), status.stx_ino, status.stx_size, false, true, {}};
  if (device_ == 0) {
    undecided_.push_back(std::move(held));
  } else if (held.device == device_) {
    Add(held);
  }
  return {};
}

// Only the name in an fdinfo can be forged, and no other file has its lines.
Result<void> ProcessScanner::AddDescriptor(int pid, const DescriptorLook& look) {
  if (look.error.number != 0) return UnlessGone(look.error);
  const std::optional<FdInfo> info = ParseFdInfo(look.text);
  if (!info) {
    if (IsPath(look.text)) return AddPath(pid, *look.status);
    // A dma-buf with an unreadable figure: no other file has this key.
    if (look.text.find("\nexp_name:\t") == std::string::npos) return {};
    return Refuse(pid, {EOVERFLOW, "read"}, Survey::Secret::kDescriptors);
  }

  uint64_t inode = info->inode;
  if (inode == 0 || device_ == 0) {
    // It is a file of the kernel, unless the number refers to another file by now.
    const struct statx& status = *look.status;
    const bool is_same = (status.stx_mode & S_IFMT) == 0 && (inode == 0 || inode == status.stx_ino);
    if (is_same) device_ = makedev(status.stx_dev_major, status.stx_dev_minor);
    if (inode == 0) {
      if (!is_same) return {};
      inode = status.stx_ino;
    }
  }

  bool is_new = false;
  const uint32_t buffer = survey_.BufferOf(inode, &is_new);
  if (is_new) is_described_.push_back(false);
  survey_.HoldingOf(buffer, pid).fds++;
  if (is_described_[buffer]) return {};
  Survey::Buffer& seen = survey_.buffers[buffer];
  seen.size = info->size;
  seen.size_is_lower_bound = false;
  seen.references = static_cast<int64_t>(info->references);
  seen.exporter = survey_.ExporterOf(info->exporter);
  if (info->name) survey_.SetName(buffer, *info->name);
  is_described_[buffer] = true;
  return {};
}

bool ProcessScanner::IsOtherDevice(dev_t device) const {
  return std::find(other_devices_.begin(), other_devices_.end(), device) != other_devices_.end();
}

Result<void> ProcessScanner::ScanMappings(Watch* watch, int pid, int thread, bool* has_seen) {
  const Result<void> may = MayLook(watch, pid, thread, Survey::Secret::kMappings);
  if (!may) return may;
  const auto file = Within(watch, [&] { return OpenAt(thread, "maps"); });
  if (!file) return kLeftBehind;
  if (!*file) return file->error();
  // It belongs to the thread: a read that returns late still writes to it.
  const auto lines = std::make_unique<char[]>(kLinesSize);
  size_t kept = 0;
  for (;;) {
    const auto read =
        Within(watch, [&] { return ::read((*file)->get(), lines.get() + kept, kLinesSize - kept); });
    if (!read) return kLeftBehind;
    const ssize_t count = *read;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError{errno, "read"};
    if (count == 0) return {};
    *has_seen = true;
    const char* line = lines.get();
    const char* const end = line + kept + count;
    // The kernel escapes newlines in paths, so every line is a mapping.
    while (const auto* newline =
               static_cast<const char*>(std::memchr(line, '\n', static_cast<size_t>(end - line)))) {
      const Result<void> scanned = ScanLine(watch, pid, thread, line, newline);
      if (!scanned) return scanned;
      line = newline + 1;
    }
    kept = static_cast<size_t>(end - line);
    if (kept == kLinesSize) return SystemError{EPROTO, "read"};  // no line is so long
    std::memmove(lines.get(), line, kept);
  }
}

// "start-end perms offset major:minor inode   path"
Result<void> ProcessScanner::ScanLine(Watch* watch, int pid, int thread, const char* line, const char* end) {
  const auto* at = static_cast<const char*>(std::memchr(line, ' ', static_cast<size_t>(end - line)));
  if (at == nullptr || end - at < 6) return {};
  const char* offset_text = at + 6;
  at = static_cast<const char*>(std::memchr(offset_text, ' ', static_cast<size_t>(end - offset_text)));
  if (at == nullptr) return {};
  at++;
  // Almost every line ends here: memory without a file, and files on disks.
  if (end - at < 6 || at[0] != '0' || at[1] != '0' || at[2] != ':' ||
      (at[3] == '0' && at[4] == '0' && at[5] == ' ')) {
    return {};
  }
  std::string_view rest(at + 3, static_cast<size_t>(end - at - 3));
  const auto minor_number = static_cast<unsigned>(TakeNumber(&rest, 16).value_or(0));
  const dev_t device = makedev(0, minor_number);
  if (device_ != 0 ? device != device_ : IsOtherDevice(device)) return {};
  SkipSpaces(&rest);
  const uint64_t inode = TakeNumber(&rest).value_or(0);
  SkipSpaces(&rest);
  const std::string_view path = rest;
  if (path.substr(0, kPrefix.size()) != kPrefix) return {};

  std::string_view range(line, static_cast<size_t>(end - line));
  const uint64_t range_start = TakeNumber(&range, 16).value_or(0);
  range.remove_prefix(1);
  const uint64_t range_end = TakeNumber(&range, 16).value_or(0);
  std::string_view offset_digits(offset_text, static_cast<size_t>(end - offset_text));
  const uint64_t offset = TakeNumber(&offset_digits, 16).value_or(0);
  Held mapping{pid,
               device,
               inode,
               offset + (range_end - range_start),
               true,
               false,
               std::string(path.substr(kPrefix.size()))};
  const Survey::Buffer* seen = survey_.Find(inode);
  if (device_ == 0 || seen == nullptr || seen->size_is_lower_bound) {
    const Result<void> looked = LookBehind(watch, thread, range_start, range_end, &mapping);
    if (!looked) return looked;
  }
  if (device_ != 0 ? device != device_ : IsOtherDevice(device)) return {};
  // None of the kernel's; but a server of files gives them what numbers it likes.
  if (inode > kMaxFigure || offset > kMaxFigure - (range_end - range_start)) {
    return Refuse(pid, {EOVERFLOW, "read"}, Survey::Secret::kMappings);
  }
  if (device_ == 0) {
    undecided_.push_back(std::move(mapping));
  } else {
    Add(mapping);
  }
  return {};
}

// Two facts that only /proc/<pid>/map_files shows, and only with CAP_CHECKPOINT_RESTORE: the size of a
// buffer that may have no descriptor left, and that the path in `maps` is not forged. Only files of the
// kernel have no type.
Result<void> ProcessScanner::LookBehind(Watch* watch, int thread, uint64_t start, uint64_t end,
                                        Held* mapping) {
  char path[64];
  std::snprintf(path, sizeof path, "map_files/%" PRIx64 "-%" PRIx64, start, end);
  struct statx status;
  const auto found = Within(watch, [&] {
    return Statx(thread, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO | STATX_SIZE,
                 &status);
  });
  if (!found) return kLeftBehind;
  if (*found < 0 || status.stx_ino != mapping->inode) return {};
  if ((status.stx_mode & S_IFMT) != 0 ||
      makedev(status.stx_dev_major, status.stx_dev_minor) != mapping->device) {
    if (device_ == 0) other_devices_.push_back(mapping->device);
    return {};
  }
  device_ = mapping->device;
  mapping->size = status.stx_size;
  mapping->size_is_lower_bound = false;
  return {};
}

void ProcessScanner::Add(const Held& mapping) {
  bool is_new = false;
  const uint32_t buffer = survey_.BufferOf(mapping.inode, &is_new);
  Survey::Holding& holding = survey_.HoldingOf(buffer, mapping.pid);
  (mapping.is_path ? holding.fds : holding.mappings)++;
  Survey::Buffer& seen = survey_.buffers[buffer];
  if (is_new) {
    is_described_.push_back(false);
    seen.size_is_lower_bound = mapping.size_is_lower_bound;
    // A newline is printed as "\012", and these four characters in a name look the same.
    if (!mapping.name.empty() && mapping.name.find("\\012") == std::string::npos) {
      survey_.SetName(buffer, mapping.name);
    }
  }
  if (is_new || seen.size_is_lower_bound) {
    seen.size = std::max(seen.size, mapping.size);
    seen.size_is_lower_bound = mapping.size_is_lower_bound;
  }
}

}  // namespace dmabuf::os
