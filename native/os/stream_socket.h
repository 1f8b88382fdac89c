#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "os/received.h"
#include "os/result.h"
#include "os/unique_fd.h"

// Unix sockets whose bytes may carry descriptors (SOCK_STREAM, unix(7)). The kernel attaches those of one
// sendmsg(2) to its first byte. A recvmsg(2) that takes this byte brings them, and ends with the bytes of
// that sendmsg(2) at the latest: so it never brings the descriptors of two.

namespace dmabuf::os {

// Makes a byte that a peer sends out of band (MSG_OOB) arrive in its place among the others (SO_OOBINLINE).
// Otherwise the kernel would drop it while we receive, and close its descriptors on this thread.
Result<void> KeepUrgentInline(int socket);

// recvmsg(2): the next bytes, at most `capacity`, which is not 0. `room`: whether as many numbers of
// descriptors are free as can come with them. kNothing when there are none yet, kEnd when the peer sends
// nothing more. kNoRoom when too few numbers are free for the descriptors: they are still there, and so are
// the bytes. kHandlesTruncated when descriptors were lost.
Result<Received> ReceiveBytes(int socket, bool room, uint8_t* data, size_t capacity, Descriptors* fds);

// shutdown(2): the peer sees the end when it has received what was sent.
Result<void> EndBytes(int socket);

// Closes an end as CloseConnection() of unix_socket.h does.
void CloseStream(UniqueFd socket, bool alone, bool ended, const std::shared_ptr<Sender>& sender);

}  // namespace dmabuf::os
