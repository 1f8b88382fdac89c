#include "os/bpf_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "os/file.h"
#include "os/retry.h"

namespace dmabuf::os {
namespace {

// <linux/magic.h>.
constexpr uint32_t kBpfFileSystem = 0xcafe4a11;

constexpr int kAnyFolder = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

bool BelongsToUs(const struct stat& status) { return status.st_uid == 0 || status.st_uid == ::geteuid(); }

// In a sticky folder that all users may write, no user can replace files of another.
enum class Sticky : bool { kRefused, kAllowed };

Result<void> CheckOwner(int fd, Sticky sticky) {
  struct stat status;
  if (::fstat(fd, &status) < 0) return SystemError{errno, "fstat"};
  const bool others_may_write = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  const bool is_guarded = sticky == Sticky::kAllowed && (status.st_mode & S_ISVTX) != 0;
  if (!BelongsToUs(status) || (others_may_write && !is_guarded)) return SystemError{EPERM, "fstat"};
  return {};
}

Result<void> CheckFileSystem(int fd) {
  struct statfs status;
  const int result = Retry([&] { return ::fstatfs(fd, &status); });
  if (result < 0) return SystemError{errno, "fstatfs"};
  if (static_cast<uint32_t>(status.f_type) != kBpfFileSystem) return SystemError{EINVAL, "fstatfs"};
  return {};
}

// Removes the first component.
std::string NextOf(std::string_view* path) {
  const size_t start = path->find_first_not_of('/');
  if (start == std::string_view::npos) {
    *path = {};
    return {};
  }
  const size_t end = std::min(path->find('/', start), path->size());
  std::string name(path->substr(start, end - start));
  *path = path->substr(end);
  return name;
}

// To the last component, which may not exist.
Result<BpfFolder> Follow(const std::string& path, std::string* where) {
  BpfFolder found;
  *where = "/";
  Result<UniqueFd> next = OpenAt(AT_FDCWD, "/", kAnyFolder);
  if (!next) return next.error();
  std::string_view rest = path;
  std::string name = NextOf(&rest);
  while (!name.empty()) {
    const Result<void> owned = CheckOwner(next->get(), Sticky::kAllowed);
    if (!owned) return owned.error();
    found.parent = std::move(*next);
    found.name = std::exchange(name, NextOf(&rest));
    *where += (where->size() > 1 ? "/" : "") + found.name;
    next = OpenAt(found.parent.get(), found.name.c_str(), kAnyFolder);
    if (next) continue;
    if (next.error().number != ENOENT || !name.empty()) return next.error();
    return found;
  }
  const Result<void> is_bpf = CheckFileSystem(next->get());
  if (!is_bpf) return is_bpf.error();
  const Result<void> owned = CheckOwner(next->get(), Sticky::kRefused);
  if (!owned) return owned.error();
  found.folder = std::move(*next);
  return found;
}

}  // namespace

Result<BpfFolder> OpenBpfFolder(const std::string& path, std::string* where) {
  Result<BpfFolder> found = Follow(path, where);
  if (found && !found->folder.valid()) return SystemError{ENOENT, "openat"};
  return found;
}

Result<BpfFolder> FindBpfFolder(const std::string& path, std::string* where) {
  Result<BpfFolder> found = Follow(path, where);
  if (!found || found->folder.valid()) return found;
  const Result<void> can_be_made = CheckFileSystem(found->parent.get());
  if (!can_be_made) return can_be_made.error();
  return found;
}

Result<void> MakeBpfFolder(BpfFolder* folder) {
  const char* name = folder->name.c_str();
  if (::mkdirat(folder->parent.get(), name, 0755) < 0) return SystemError{errno, "mkdirat"};
  // This is the folder that was just made: no other user may rename or remove it.
  Result<UniqueFd> made = OpenAt(folder->parent.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (!made) return made.error();
  const Result<void> owned = CheckOwner(made->get(), Sticky::kRefused);
  if (!owned) return owned.error();
  // Whatever the umask is, other users must be able to find the files.
  if (::fchmod(made->get(), 0755) < 0) return SystemError{errno, "fchmod"};
  folder->folder = std::move(*made);
  return {};
}

Result<UniqueFd> OpenPinned(int folder, const char* name) {
  Result<UniqueFd> file = OpenAt(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  // A BPF file system refuses only programs and maps with this error.
  if (!file && file.error().number == EIO) return SystemError{EPROTO, "openat"};
  if (!file) return file;
  const Result<void> is_bpf = CheckFileSystem(file->get());
  if (!is_bpf) return is_bpf.error();
  const Result<void> owned = CheckOwner(file->get(), Sticky::kRefused);
  if (!owned) return owned.error();
  struct stat status;
  if (::fstat(file->get(), &status) < 0) return SystemError{errno, "fstat"};
  if (!S_ISREG(status.st_mode)) return SystemError{EPROTO, "fstat"};
  return file;
}

}  // namespace dmabuf::os
