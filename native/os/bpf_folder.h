#pragma once

#include <string>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// A folder of a BPF file system that nobody but root and this user can have put anything into, reached
// without following anything that another user could replace. Its files are used only relative to its
// descriptor.
struct BpfFolder {
  UniqueFd parent;
  std::string name;  // in its parent
  UniqueFd folder;   // not valid if there is none yet
};

// Follows an absolute path, component by component. Every folder on the way must belong to root or to this
// user, and be writable by nobody else unless it is sticky; the last may not even be sticky. Fails, with the
// component in `where`, with EPERM and "fstat" when one is another's, EINVAL and "fstatfs" when the last is
// not in a BPF file system, ENOTDIR and "openat" for a symbolic link too.
Result<BpfFolder> OpenBpfFolder(const std::string& path, std::string* where);
// The same, except that the last may be missing if it can be created: in a BPF file system.
Result<BpfFolder> FindBpfFolder(const std::string& path, std::string* where);
// Makes the folder, with the mode 0755.
Result<void> MakeBpfFolder(BpfFolder* folder);

// Opens a file of the folder, which must be root's or this user's, writable by nobody else and really in a
// BPF file system: fails with EPERM and EINVAL as above, ELOOP for a symbolic link, EPROTO for pinned
// objects that cannot be read (a program, a map), and for anything that is not a file.
Result<UniqueFd> OpenPinned(int folder, const char* name);

}  // namespace dmabuf::os
