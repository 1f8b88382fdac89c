#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "os/closer.h"
#include "os/result.h"
#include "os/unique_fd.h"

// Unix sockets that keep messages apart (SOCK_SEQPACKET, unix(7)). All are close-on-exec. Connections stay
// blocking, since the file status flags belong to everybody who holds that end; the calls here never block.

namespace dmabuf::os {

// SCM_MAX_FD of the kernel.
constexpr size_t kMaxHandles = 253;

Result<std::pair<UniqueFd, UniqueFd>> CreateSocketPair();

// `address`: a path, or a NUL and an abstract name; EINVAL when it does not fit into sun_path. EAGAIN while
// the listener's queue is full.
Result<UniqueFd> Connect(std::string_view address);
// Whether a socket, of whatever type, is bound to the file at `path`. It does not notice: a datagram socket
// that connects to one of another type gets EPROTOTYPE, and ECONNREFUSED if there is none left.
Result<bool> IsSocketBound(std::string_view path);
// `type`: SOCK_SEQPACKET or SOCK_STREAM. A file gets the permissions `mode` less the umask, from its first
// moment on.
Result<UniqueFd> Listen(std::string_view address, int type, mode_t mode);
// accept4(2). EAGAIN when nobody waits.
Result<UniqueFd> Accept(int listener);

// Nothing for the end of a connection, EPROTOTYPE or ENOTSOCK for other files, ENOTCONN for other sockets.
Result<void> CheckConnection(int socket);

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

// sendmsg(2) with SCM_RIGHTS: a whole message or nothing. EAGAIN when the socket is full; EPIPE when the peer
// is gone.
Result<void> Send(int socket, const uint8_t* data, size_t length, const int* fds, size_t count);

// The descriptors of a message, until each has found its owner.
class Descriptors {
 public:
  explicit Descriptors(const std::shared_ptr<Sender>& sender) : sender_(sender) {}
  Descriptors(const Descriptors&) = delete;
  Descriptors(Descriptors&&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  Descriptors& operator=(Descriptors&&) = delete;
  ~Descriptors() {
    if (count_ > 0) Clear();
  }

  [[nodiscard]] size_t count() const { return count_; }
  [[nodiscard]] int get(size_t index) const { return fds_[index]; }
  [[nodiscard]] UniqueFd Take(size_t index) { return UniqueFd(std::exchange(fds_[index], -1)); }
  void Add(UniqueFd fd) {
    if (count_ < kMaxHandles) fds_[count_++] = fd.release();
  }
  // Closes what was not taken, by the closer.
  void Clear(Wait wait = Wait::kNo);

 private:
  const std::shared_ptr<Sender>& sender_;
  int fds_[kMaxHandles];
  size_t count_ = 0;
};

// Makes the kernel mark every message that this end receives (SO_TIMESTAMPNS), so that an empty message can
// be distinguished from the end without a second system call. Other receivers at this end see the marks.
Result<void> MarkMessages(int socket, bool on);

struct ReceiveMode {
  bool marked;  // MarkMessages() is on
  bool room;    // whether as many numbers of descriptors are free as a message can bring
};

struct Received {
  enum class Kind : uint8_t { kMessage, kNothing, kEnd, kDataTruncated, kHandlesTruncated, kNoRoom };
  Kind kind;
  size_t length;     // bytes: of the whole message, even of one that did not fit
  size_t delivered;  // how many descriptors arrived, or could have
  bool marked;
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
