#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "os/closer.h"
#include "os/received.h"
#include "os/result.h"
#include "os/unique_fd.h"

// Unix sockets (unix(7)), and those that keep messages apart (SOCK_SEQPACKET); stream_socket.h has the
// others. All are close-on-exec. Connections stay blocking, since all processes that hold an end share its
// file status flags; the calls here never block.

namespace dmabuf::os {

// `type`, here and below: SOCK_SEQPACKET or SOCK_STREAM.
Result<std::pair<UniqueFd, UniqueFd>> CreateSocketPair(int type);

// `address`: a path, or a NUL and an abstract name; EINVAL when it does not fit into sun_path. EAGAIN while
// the listener's queue is full.
Result<UniqueFd> Connect(std::string_view address, int type);
// Whether a socket, of whatever type, is bound to the file at `path`. It does not notice: a datagram socket
// that connects to one of another type gets EPROTOTYPE, and ECONNREFUSED if there is none left.
Result<bool> IsSocketBound(std::string_view path);
// A file gets the permissions `mode` less the umask, from its first moment on.
Result<UniqueFd> Listen(std::string_view address, int type, mode_t mode);
// accept4(2). EAGAIN when nobody waits.
Result<UniqueFd> Accept(int listener);

// Nothing for the end of a connection, EPROTOTYPE or ENOTSOCK for other files, ENOTCONN for other sockets.
Result<void> CheckConnection(int socket, int type);
// The same for a listening socket; EINVAL for one that does not listen.
Result<void> CheckListener(int socket, int type);
// The address to which a socket is bound: a path, a NUL and an abstract name, or nothing.
Result<std::string> AddressOfSocket(int socket);

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
// SO_PEERCRED: who made the connection, as it was then.
Result<PeerCredentials> DescribePeer(int socket);

// The largest message that the socket sends, in bytes: SO_SNDBUF, less what the kernel keeps for itself.
Result<size_t> MessageLimitOf(int socket);
// Raises or lowers it: beyond net.core.wmem_max only with CAP_NET_ADMIN, and silently not otherwise.
Result<void> SetMessageLimit(int socket, size_t bytes);

// sendmsg(2) with SCM_RIGHTS: a whole message or nothing; on a stream the first bytes, and the descriptors
// with them. Returns how many bytes. EAGAIN when the socket is full; EPIPE when the peer is gone.
Result<size_t> Send(int socket, const uint8_t* data, size_t length, const int* fds, size_t count);

// Makes the kernel mark every message that this end receives (SO_TIMESTAMPNS), so that an empty message can
// be distinguished from the end without a second system call. Other receivers at this end see the marks.
Result<void> MarkMessages(int socket, bool on);

struct ReceiveMode {
  bool marked;  // MarkMessages() is on
  bool room;    // whether as many numbers of descriptors are free as a message can bring
};

// recvmsg(2): the next message. Its descriptors, close-on-exec, go into `fds`; of a truncated message they
// are closed. kNothing when there is none yet, kEnd when the peer is gone and has left none. kNoRoom when too
// few numbers are free for its descriptors: it is still there, and DiscardMessage() throws it away. (What the
// kernel has no number for, it closes while it receives.)
Result<Received> Receive(int socket, const ReceiveMode& mode, uint8_t* data, size_t capacity,
                         Descriptors* fds);

// Close an end, or a socket that listens, and leave it to the closer unless its queue is certainly empty:
// the kernel closes the descriptors in there. `alone`: nobody else holds it, so that what a peer may still
// send can be refused first. `ended`: kEnd was received.
struct Closing {
  bool marked;  // MarkMessages() is on
  bool alone;
  bool ended;
};
void CloseConnection(UniqueFd socket, const Closing& how, const std::shared_ptr<Sender>& sender);
void CloseListener(UniqueFd socket, bool alone);

}  // namespace dmabuf::os
