#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "os/file.h"
#include "os/result.h"
#include "os/unique_fd.h"

// The file that bind(2) gives a Unix socket, and its folder, by descriptors of theirs (O_PATH). Each function
// may wait for the file system: for threads of PathLookup. What they can, they do in a process apart
// (os/apart.h).

namespace dmabuf::os {

struct NamedFile {
  UniqueFd fd;  // O_PATH
  FileIdentity identity;
  mode_t mode;
  uid_t user;
};
// open(2) and openat(2) with O_PATH, and fstat(2). That of a file follows no link.
Result<NamedFile> OpenPlace(const std::string& path);
Result<NamedFile> OpenInPlace(int folder, const std::string& name);
// unlinkat(2).
Result<void> RemoveInPlace(int folder, const std::string& name);
// chmod(2) of what the descriptor stands for.
Result<void> ChangeMode(int file, mode_t mode);
// Whether a socket, of whatever type, is bound to the file.
Result<bool> IsSocketAlive(int file);
// flock(2) of a folder, until the result is closed: EAGAIN while somebody else keeps it.
Result<UniqueFd> LockPlace(int folder);

// Where a listening socket's file is.
struct SocketFile {
  std::shared_ptr<const UniqueFd> folder;
  std::string name;
  FileIdentity identity;
};
// Removes it, unless another has its name by now.
Result<void> RemoveSocket(const SocketFile& file);

}  // namespace dmabuf::os
