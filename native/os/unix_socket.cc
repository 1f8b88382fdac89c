#include "os/unix_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "os/closer.h"
#include "os/file.h"
#include "os/retry.h"

namespace dmabuf::os {
namespace {

struct Address {
  sockaddr_un name{};
  socklen_t length = 0;
};

Result<Address> AddressOf(std::string_view text, const char* call) {
  Address address;
  // A path needs its NUL; an abstract name begins with one and has no other.
  const size_t terminator = !text.empty() && text[0] == '\0' ? 0 : 1;
  if (text.empty() || text.size() + terminator > sizeof address.name.sun_path)
    return SystemError{EINVAL, call};
  address.name.sun_family = AF_UNIX;
  std::memcpy(address.name.sun_path, text.data(), text.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + terminator);
  return address;
}

Result<UniqueFd> CreateSocket(int type) {
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return SystemError{errno, "socket"};
  return socket;
}

Result<void> ConnectSocket(int socket, const Address& address) {
  const int result = Retry(
      [&] { return ::connect(socket, reinterpret_cast<const sockaddr*>(&address.name), address.length); });
  if (result < 0) return SystemError{errno, "connect"};
  return {};
}

// What unix_dgram_sendmsg() keeps of SO_SNDBUF for itself.
constexpr size_t kSendReserve = 32;

// Whether the peer is gone, or sends no more.
Result<bool> IsPeerGone(int socket) {
  pollfd request{socket, POLLRDHUP, 0};
  const int count = Retry([&] { return ::poll(&request, 1, 0); });
  if (count < 0) return SystemError{errno, "poll"};
  return (request.revents & (POLLRDHUP | POLLHUP)) != 0;
}

// Whether the queue of a peer that is gone is empty, where a look at it showed no bytes and no control
// message: that is the end, or an empty message. Every message has its sender's credentials, the end has
// none.
Result<bool> IsQueueEmpty(int socket) {
  for (;;) {
    const Result<int> before = IntegerOption(socket, SO_PASSCRED);
    if (!before) return before.error();
    const int on = 1;
    const int off = 0;
    if (::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0) {
      return SystemError{errno, "setsockopt"};
    }
    const Result<Arrival> arrival = ReceiveNow(socket, MSG_PEEK, nullptr, 0, nullptr);
    // Somebody else who holds this end may do the same and have turned it off.
    const Result<int> after = IntegerOption(socket, SO_PASSCRED);
    if (*before == 0) ::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &off, sizeof off);
    if (!arrival) return arrival.error();
    if (arrival->length != 0 || arrival->control_cut) return arrival->length < 0;
    if (after && *after != 0) return true;
  }
}

Result<bool> IsEnd(int socket) {
  const Result<bool> gone = IsPeerGone(socket);
  return gone && *gone ? IsQueueEmpty(socket) : gone;
}

// Receives a message that brings descriptors while hardly any number is free. A look at it yields copies; as
// long as there are these, nothing is released when the message goes. (close(2) of a copy asks a file system
// as well: flush.)
Result<Received> TakeCopies(int socket, uint8_t* data, size_t capacity, Descriptors* fds) {
  const Result<Arrival> arrival = ReceiveNow(socket, MSG_PEEK, data, capacity, fds);
  if (!arrival) return arrival.error();
  if (arrival->length < 0) return Received{Received::Kind::kNothing, 0, 0, false};
  Received received{Received::Kind::kMessage, static_cast<size_t>(arrival->length), fds->count(),
                    arrival->marked};
  if (arrival->control_cut) {
    fds->Clear();
    received.kind = Received::Kind::kNoRoom;
    return received;
  }
  const Result<Arrival> gone = ReceiveNow(socket, 0, nullptr, 0, nullptr);
  if (!gone) return gone.error();
  if (arrival->data_cut) {
    fds->Clear();
    received.kind = Received::Kind::kDataTruncated;
  }
  return received;
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> CreateSocketPair(int type) {
  int ends[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) < 0) {
    return SystemError{errno, "socketpair"};
  }
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<UniqueFd> Connect(std::string_view text, int type) {
  const Result<Address> address = AddressOf(text, "connect");
  if (!address) return address.error();
  Result<UniqueFd> socket = CreateSocket(type);
  if (!socket) return socket;
  const Result<void> connected = ConnectSocket(socket->get(), *address);
  if (!connected) return connected.error();
  if (::fcntl(socket->get(), F_SETFL, 0) < 0) return SystemError{errno, "fcntl"};
  return socket;
}

Result<bool> IsSocketBound(std::string_view path) {
  const Result<Address> address = AddressOf(path, "connect");
  if (!address) return address.error();
  const Result<UniqueFd> socket = CreateSocket(SOCK_DGRAM);
  if (!socket) return socket.error();
  const Result<void> connected = ConnectSocket(socket->get(), *address);
  // EPERM: a datagram socket that talks to another one alone.
  if (connected || connected.error().number == EPROTOTYPE || connected.error().number == EPERM) return true;
  if (connected.error().number == ECONNREFUSED) return false;
  return connected.error();
}

Result<UniqueFd> Listen(std::string_view text, int type, mode_t mode) {
  const Result<Address> address = AddressOf(text, "bind");
  if (!address) return address.error();
  Result<UniqueFd> socket = CreateSocket(type);
  if (!socket) return socket;
  // The file inherits the permissions of the socket's own inode.
  if (::fchmod(socket->get(), mode) < 0) return SystemError{errno, "fchmod"};
  if (::bind(socket->get(), reinterpret_cast<const sockaddr*>(&address->name), address->length) < 0) {
    return SystemError{errno, "bind"};
  }
  constexpr int kMost = 4096;  // the kernel's own default for net.core.somaxconn, which caps it
  if (::listen(socket->get(), kMost) < 0) return SystemError{errno, "listen"};
  return socket;
}

Result<UniqueFd> Accept(int listener) {
  // An adopted listener may be blocking; accept4(2) has no flag against that, unlike recvmsg(2).
  const int flags = ::fcntl(listener, F_GETFL);
  if (flags < 0) return SystemError{errno, "fcntl"};
  if ((flags & O_NONBLOCK) == 0) {
    pollfd request{listener, POLLIN, 0};
    const int count = Retry([&] { return ::poll(&request, 1, 0); });
    if (count < 0) return SystemError{errno, "poll"};
    if (count == 0) return SystemError{EAGAIN, "accept4"};
  }
  int fd;
  do {
    fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (fd < 0) return SystemError{errno, "accept4"};
  return UniqueFd(fd);
}

namespace {

Result<void> CheckType(int socket, int type) {
  const Result<int> domain = IntegerOption(socket, SO_DOMAIN);
  if (!domain) return domain.error();
  const Result<int> actual = IntegerOption(socket, SO_TYPE);
  if (!actual) return actual.error();
  if (*domain != AF_UNIX || *actual != type) return SystemError{EPROTOTYPE, "getsockopt"};
  return {};
}

}  // namespace

Result<void> CheckConnection(int socket, int type) {
  const Result<void> checked = CheckType(socket, type);
  if (!checked) return checked;
  sockaddr_un peer;
  socklen_t length = sizeof peer;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length) < 0) {
    return SystemError{errno, "getpeername"};
  }
  return {};
}

Result<void> CheckListener(int socket, int type) {
  const Result<void> checked = CheckType(socket, type);
  if (!checked) return checked;
  const Result<int> listens = IntegerOption(socket, SO_ACCEPTCONN);
  if (!listens) return listens.error();
  if (*listens == 0) return SystemError{EINVAL, "getsockopt"};
  return {};
}

Result<std::string> AddressOfSocket(int socket) {
  sockaddr_un name{};
  socklen_t length = sizeof name;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&name), &length) < 0) {
    return SystemError{errno, "getsockname"};
  }
  std::string address(name.sun_path, length - offsetof(sockaddr_un, sun_path));
  // A path ends in a NUL, an abstract name does not.
  if (!address.empty() && address[0] != '\0') address.resize(::strnlen(address.data(), address.size()));
  return address;
}

Result<PeerCredentials> DescribePeer(int socket) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) {
    return SystemError{errno, "getsockopt"};
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<size_t> MessageLimitOf(int socket) {
  const Result<int> size = IntegerOption(socket, SO_SNDBUF);
  if (!size) return size.error();
  return static_cast<size_t>(*size) - kSendReserve;
}

Result<void> SetMessageLimit(int socket, size_t bytes) {
  const int half = static_cast<int>((bytes + kSendReserve + 1) / 2);  // the kernel doubles it
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &half, sizeof half) == 0) return {};
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &half, sizeof half) == 0) return {};
  return SystemError{errno, "setsockopt"};
}

Result<size_t> Send(int socket, const uint8_t* data, size_t length, const int* fds, size_t count) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxHandles * sizeof(int)) + sizeof(size_t)];
  iovec bytes{const_cast<uint8_t*>(data), length};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (count > 0) {
    auto* header = reinterpret_cast<cmsghdr*>(control);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    // The kernel copies the padding, too.
    std::memset(control + CMSG_LEN(count * sizeof(int)), 0, sizeof(size_t));
  }
  bool reset = false;
  ssize_t sent;
  while ((sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL)) < 0) {
    if (errno == EINTR) continue;
    // The peer went without reading what it had been sent: said once, before the EPIPE that says the same.
    if (errno == ECONNRESET && !reset) {
      reset = true;
      continue;
    }
    return SystemError{errno, "sendmsg"};
  }
  return static_cast<size_t>(sent);
}

Result<void> MarkMessages(int socket, bool on) {
  const int value = on ? 1 : 0;
  if (::setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPNS, &value, sizeof value) == 0) return {};
  return SystemError{errno, "setsockopt"};
}

Result<Received> Receive(int socket, const ReceiveMode& mode, uint8_t* data, size_t capacity,
                         Descriptors* fds) {
  if (mode.room && mode.marked) return Take(socket, data, capacity, fds, false);
  const Result<Arrival> next = ReceiveNow(socket, MSG_PEEK, nullptr, 0, nullptr);
  if (!next) return next.error();
  if (next->length < 0) {
    if (CanLookAt(socket)) return Received{Received::Kind::kNothing, 0, 0, false};
    if (mode.room) return Take(socket, data, capacity, fds, false);
    return Received{Received::Kind::kNoRoom, 0, 0, false};
  }
  if (next->length == 0 && !next->control_cut) {
    const Result<bool> end = mode.marked ? Result<bool>(true) : IsEnd(socket);
    if (!end) return end.error();
    if (*end) return Received{Received::Kind::kEnd, 0, 0, false};
  }
  if (!mode.room && next->control_cut) return TakeCopies(socket, data, capacity, fds);
  return Take(socket, data, capacity, fds, true);
}

namespace {

// Receives what nobody will, so that its descriptors are closed as what they are, as far as the calling
// thread may look at them; the rest is the closer's. Nothing more may come. Returns whether the queue is
// empty.
bool Drain(int socket, bool marked, const std::shared_ptr<Sender>& sender) {
  while (ReceptionOf(*sender) == Reception::kNow && FreeDescriptors() > kMaxHandles) {
    if (!MayLookAt(1)) return false;
    Descriptors fds(sender);
    const Result<Arrival> arrival = ReceiveNow(socket, 0, nullptr, 0, &fds);
    if (!arrival) return false;
    if (arrival->length <= 0 && fds.count() == 0 && !arrival->marked) {
      if (marked || arrival->length < 0) return true;
      const Result<bool> empty = IsQueueEmpty(socket);
      if (!empty || *empty) return empty && *empty;
    }
    (void)MayLookAt(fds.count());
    fds.Clear(Wait::kAMoment);
  }
  return false;
}

}  // namespace

void CloseConnection(UniqueFd socket, const Closing& how, const std::shared_ptr<Sender>& sender) {
  if (how.ended) return;
  if (!how.alone) {
    // Another holder may hold its lock: even to inspect the queue would block.
    (void)CloseForeignFiles({{socket.release(), sender}}, Wait::kAMoment);
    return;
  }
  ::shutdown(socket.get(), SHUT_RD);
  const Result<Arrival> next = ReceiveNow(socket.get(), MSG_PEEK, nullptr, 0, nullptr);
  bool empty = next && next->length < 0;
  if (next && next->length == 0 && !next->control_cut) {
    const Result<bool> end = how.marked ? Result<bool>(true) : IsQueueEmpty(socket.get());
    empty = end && *end;
  }
  if (empty || Drain(socket.get(), how.marked, sender)) return;
  ::shutdown(socket.get(), SHUT_RDWR);  // the peer sees the end at once
  (void)CloseForeignFiles({{socket.release(), sender}}, Wait::kAMoment);
}

void CloseListener(UniqueFd socket, bool alone) {
  std::vector<ForeignFile> files;
  if (alone) {
    // No client connects from now on; EINVAL says that none has.
    ::shutdown(socket.get(), SHUT_RD);
    UniqueFd waiting(::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!waiting.valid() && errno == EINVAL) return;
    if (waiting.valid()) files.push_back({waiting.release(), nullptr});
  } else {
    pollfd request{socket.get(), POLLIN, 0};
    if (::poll(&request, 1, 0) == 0) return;
  }
  files.push_back({socket.release(), nullptr});
  (void)CloseForeignFiles(files, Wait::kAMoment);
}

}  // namespace dmabuf::os
