#pragma once

#include <memory>

#include "os/closer.h"
#include "os/file.h"
#include "os/file_kind.h"

namespace dmabuf::os {

// The numbers of descriptors that JavaScript got from receive() and createMemfd() and has to close: with
// their senders, and the environment that closes them when it ends before JavaScript has done so. One table
// for the process, like the numbers themselves: another thread may take one over.
//
// `environment`: a worker's, or nullptr for the main thread, at whose end the kernel closes everything.
void Entrust(int fd, const FileIdentity& identity, const std::shared_ptr<Sender>& sender,
             const void* environment);
// Another owner takes over the number.
void Redeem(int fd);
// The number is being closed. Returns its sender, if there is one and the number still refers to the
// inspected file.
std::shared_ptr<Sender> Redeem(int fd, const Result<ForeignStatus>& status);
// The environment ends. Closes the numbers that still refer to the same file: others may have been closed
// and reused. Files that share one inode (eventfds, timerfds, ...) cannot be told apart, and stay open.
void CloseEntrusted(const void* environment);

}  // namespace dmabuf::os
