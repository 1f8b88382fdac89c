#include "os/unix_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "os/file_kind.h"

namespace dmabuf {
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

Result<void> Connect(int socket, const Address& address) {
  int result;
  do {
    result = ::connect(socket, reinterpret_cast<const sockaddr*>(&address.name), address.length);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return SystemError{errno, "connect"};
  return {};
}

Result<int> IntegerOption(int socket, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(socket, SOL_SOCKET, option, &value, &length) < 0) return SystemError{errno, "getsockopt"};
  return value;
}

// What unix_dgram_sendmsg() keeps of SO_SNDBUF for itself.
constexpr size_t kSendReserve = 32;

// Other control messages than ours: credentials, a security label, a pidfd, when an adopted socket has them
// on.
constexpr size_t kOtherControl = 512;
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

// Takes the descriptors out of the control messages, so that each has an owner.
void TakeDescriptors(msghdr* message, Descriptors* fds) {
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type != SCM_RIGHTS && header->cmsg_type != SCM_PIDFD) continue;
    const size_t arrived = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < arrived; index++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + index * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (header->cmsg_type == SCM_RIGHTS) fds->Add(std::move(owned));
    }
  }
}

// recv(2) yields 0 for an empty message as well as for the end. It is the end when the peer is gone and
// nothing else is there either: every message has its sender's credentials, the end has none.
bool IsEnd(int socket) {
  pollfd request{socket, POLLRDHUP, 0};
  if (::poll(&request, 1, 0) < 1 || (request.revents & (POLLRDHUP | POLLHUP)) == 0) return false;
  const Result<int> before = IntegerOption(socket, SO_PASSCRED);
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t length;
  do {
    length = ::recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (length < 0 && (errno == EINTR || errno == ECONNRESET));
  if (before && *before == 0) ::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &*before, sizeof *before);
  return length == 0 && message.msg_controllen == 0 && (message.msg_flags & MSG_CTRUNC) == 0;
}

}  // namespace

void Descriptors::Clear() {
  std::vector<int> fds;
  for (size_t index = 0; index < count_; index++) {
    if (fds_[index] >= 0) fds.push_back(fds_[index]);
  }
  count_ = 0;
  CloseForeignFiles(fds);
}

Result<std::pair<UniqueFd, UniqueFd>> CreateSocketPair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    return SystemError{errno, "socketpair"};
  }
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<UniqueFd> ConnectTo(std::string_view text) {
  const Result<Address> address = AddressOf(text, "connect");
  if (!address) return address.error();
  Result<UniqueFd> socket = CreateSocket(SOCK_SEQPACKET);
  if (!socket) return socket;
  const Result<void> connected = Connect(socket->get(), *address);
  if (!connected) return connected.error();
  if (::fcntl(socket->get(), F_SETFL, 0) < 0) return SystemError{errno, "fcntl"};
  return socket;
}

Result<bool> IsSocketAlive(std::string_view path) {
  const Result<Address> address = AddressOf(path, "connect");
  if (!address) return address.error();
  const Result<UniqueFd> socket = CreateSocket(SOCK_DGRAM);
  if (!socket) return socket.error();
  const Result<void> connected = Connect(socket->get(), *address);
  // EPERM: a datagram socket that talks to another one alone.
  if (connected || connected.error().number == EPROTOTYPE || connected.error().number == EPERM) return true;
  if (connected.error().number == ECONNREFUSED) return false;
  return connected.error();
}

Result<UniqueFd> LockFolder(const char* path) {
  UniqueFd folder(::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return SystemError{errno, "open"};
  if (::flock(folder.get(), LOCK_EX | LOCK_NB) < 0) return SystemError{errno, "flock"};
  return folder;
}

Result<UniqueFd> ListenOn(std::string_view text, mode_t mode) {
  const Result<Address> address = AddressOf(text, "bind");
  if (!address) return address.error();
  Result<UniqueFd> socket = CreateSocket(SOCK_SEQPACKET);
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
  int fd;
  do {
    fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (fd < 0) return SystemError{errno, "accept4"};
  return UniqueFd(fd);
}

Result<void> CheckConnection(int socket) {
  const Result<int> domain = IntegerOption(socket, SO_DOMAIN);
  if (!domain) return domain.error();
  const Result<int> type = IntegerOption(socket, SO_TYPE);
  if (!type) return type.error();
  if (*domain != AF_UNIX || *type != SOCK_SEQPACKET) return SystemError{EPROTOTYPE, "getsockopt"};
  sockaddr_un peer;
  socklen_t length = sizeof peer;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length) < 0) {
    return SystemError{errno, "getpeername"};
  }
  return {};
}

Result<PeerCredentials> PeerOf(int socket) {
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

Result<void> SendMessage(int socket, const uint8_t* data, size_t length, const int* fds, size_t count) {
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
  while (::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    // The peer went without reading what it had been sent: said once, before the EPIPE that says the same.
    if (errno == ECONNRESET && !reset) {
      reset = true;
      continue;
    }
    return SystemError{errno, "sendmsg"};
  }
  return {};
}

Result<Received> ReceiveMessage(int socket, uint8_t* data, size_t capacity, Descriptors* fds) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxHandles * sizeof(int)) + kOtherControl];
  iovec bytes{data, capacity};
  msghdr message;
  ssize_t length;
  bool reset = false;
  for (;;) {
    message = {};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    // With MSG_TRUNC the length is the whole message's.
    length = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);
    if (length >= 0) break;
    if (errno == EINTR) continue;
    // The peer went without reading all of ours: said once, before what it had sent itself.
    if (errno == ECONNRESET && !reset) {
      reset = true;
      continue;
    }
    if (errno == EAGAIN) return Received{Received::Kind::kNothing, 0, 0};
    return SystemError{errno, "recvmsg"};
  }
  TakeDescriptors(&message, fds);
  Received received{Received::Kind::kMessage, static_cast<size_t>(length), fds->count()};
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    fds->Clear();
    received.kind = (message.msg_flags & MSG_TRUNC) != 0 ? Received::Kind::kDataTruncated
                                                         : Received::Kind::kHandlesTruncated;
  } else if (length == 0 && fds->count() == 0 && IsEnd(socket)) {
    received.kind = Received::Kind::kEnd;
  }
  return received;
}

}  // namespace dmabuf
