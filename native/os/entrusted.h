#pragma once

#include <memory>

#include "os/closer.h"
#include "os/file.h"
#include "os/file_kind.h"

namespace dmabuf::os {

// The numbers of descriptors that JavaScript was given to close, by receive() and createMemfd(): who sent
// them, and which environment closes them when it ends before JavaScript did. One table for the process, like
// the numbers themselves: another thread may take one over.
//
// `environment`: a worker's, or nullptr for the main thread, at whose end the kernel closes everything.
void Entrust(int fd, const FileIdentity& identity, const std::shared_ptr<Sender>& sender,
             const void* environment);
// Somebody takes the number over.
void Redeem(int fd);
// Somebody closes it. Returns who sent it, if anybody did and it still is the file that was looked at.
std::shared_ptr<Sender> Redeem(int fd, const Result<ForeignStatus>& status);
// The environment ends. Closes what still is the same file: its number may have been closed and be another
// file's since. Files that share one inode (eventfds, timerfds, ...) cannot be told apart, and stay open.
void CloseEntrusted(const void* environment);

}  // namespace dmabuf::os
