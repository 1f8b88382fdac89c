#include "os/socket_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "os/apart.h"
#include "os/path_lookup.h"
#include "os/unix_socket.h"

namespace dmabuf::os {
namespace {

// By which calls that take no descriptor of O_PATH reach what it stands for.
struct OwnPath {
  char text[32];

  explicit OwnPath(int fd) { std::snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
};

constexpr int kFolder = O_DIRECTORY;
constexpr int kFile = O_NOFOLLOW;

Result<NamedFile> Open(int folder, const std::string& name, int flags) {
  Result<UniqueFd> file = OpenAt(folder, name.c_str(), O_PATH | flags);
  if (!file) return SystemError{file.error().number, "open"};
  struct stat status;
  if (::fstat(file->get(), &status) < 0) return SystemError{errno, "fstat"};
  return NamedFile{std::move(*file), {status.st_dev, status.st_ino}, status.st_mode, status.st_uid};
}

Result<void> Remove(int folder, const std::string& name) {
  if (::unlinkat(folder, name.c_str(), 0) < 0) return SystemError{errno, "unlink"};
  return {};
}

Result<void> RemoveFrom(int folder, const SocketFile& file) {
  const Result<NamedFile> found = Open(folder, file.name, kFile);
  if (!found) return found.error();
  if (!(found->identity == file.identity)) return {};
  return Remove(folder, file.name);
}

Result<NamedFile> OpenAfterLook(int folder, const std::string& name, int flags) {
  const Result<void> found = LookUpApart(folder, name, flags);
  if (!found) return SystemError{found.error().number, "open"};
  return Open(folder == kOwnFolder ? AT_FDCWD : folder, name, flags);
}

}  // namespace

Result<NamedFile> OpenPlace(const std::string& path) { return OpenAfterLook(kOwnFolder, path, kFolder); }

Result<NamedFile> OpenInPlace(int folder, const std::string& name) {
  return OpenAfterLook(folder, name, kFile);
}

Result<void> RemoveInPlace(int folder, const std::string& name) {
  Result<void> removed;
  const Result<void> apart = RunApart(folder, [&](int where) { removed = Remove(where, name); });
  return apart ? removed : apart;
}

Result<void> ChangeMode(int file, mode_t mode) {
  if (::fchmodat(AT_FDCWD, OwnPath(file).text, mode, 0) < 0) return SystemError{errno, "chmod"};
  return {};
}

Result<bool> IsSocketAlive(int file) { return IsSocketBound(OwnPath(file).text); }

Result<UniqueFd> LockPlace(int folder) {
  Result<UniqueFd> opened = OpenAt(folder, ".", O_RDONLY | O_DIRECTORY);
  if (!opened) return SystemError{opened.error().number, "open"};
  if (::flock(opened->get(), LOCK_EX | LOCK_NB) < 0) return SystemError{errno, "flock"};
  return opened;
}

Result<void> RemoveSocket(const SocketFile& file) {
  Result<void> removed;
  const Result<void> apart =
      RunApart(file.folder->get(), [&](int folder) { removed = RemoveFrom(folder, file); });
  return apart ? removed : apart;
}

}  // namespace dmabuf::os
