#include "os/stream_socket.h"

#include <sys/socket.h>

#include <cerrno>

#include "os/closer.h"
#include "os/file.h"

namespace dmabuf::os {
namespace {

constexpr Received kNothingThere{Received::Kind::kNothing, 0, 0, false};

// Receives bytes that come with descriptors while hardly any number is free. A look at them yields copies of
// the descriptors; while these exist, nothing is released when the bytes are taken.
Result<Received> TakeBytesAndCopies(int socket, uint8_t* data, size_t capacity, Descriptors* fds) {
  const Result<Arrival> look = ReceiveNow(socket, MSG_PEEK, data, capacity, fds);
  if (!look) return look.error();
  if (look->length < 0) return kNothingThere;
  if (look->control_cut) {
    fds->Clear();
    return Received{Received::Kind::kNoRoom, 0, 0, false};
  }
  const auto length = static_cast<size_t>(look->length);
  const Result<Arrival> taken = ReceiveNow(socket, 0, data, length, nullptr);
  if (!taken) return taken.error();
  return Received{Received::Kind::kMessage, static_cast<size_t>(taken->length), fds->count(), false};
}

// Receives what is left, so that each descriptor is closed according to its kind, as far as the calling
// thread may inspect them. Nothing more may arrive. Returns whether the queue is empty.
bool Drain(int socket, const std::shared_ptr<Sender>& sender) {
  uint8_t bytes[16384];
  const Result<Arrival> look = ReceiveNow(socket, MSG_PEEK, bytes, 1, nullptr);
  if (look && look->length <= 0) return true;
  while (ReceptionOf(*sender) == Reception::kNow && FreeDescriptors() > kMaxHandles) {
    if (!MayLookAt(1)) return false;
    Descriptors fds(sender);
    const Result<Arrival> arrival = ReceiveNow(socket, 0, bytes, sizeof bytes, &fds);
    if (!arrival) return false;
    if (arrival->length <= 0) return true;
    (void)MayLookAt(fds.count());
    fds.Clear(Wait::kAMoment);
  }
  return false;
}

}  // namespace

Result<void> KeepUrgentInline(int socket) {
  const int on = 1;
  if (::setsockopt(socket, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) == 0) return {};
  return SystemError{errno, "setsockopt"};
}

Result<Received> ReceiveBytes(int socket, bool room, uint8_t* data, size_t capacity, Descriptors* fds) {
  if (room) return Take(socket, data, capacity, fds, false);
  // Without room for control messages, a look reports whether there are any.
  const Result<Arrival> look = ReceiveNow(socket, MSG_PEEK, data, capacity, nullptr);
  if (!look) return look.error();
  if (look->length < 0) {
    if (CanLookAt(socket)) return kNothingThere;
    return Received{Received::Kind::kNoRoom, 0, 0, false};
  }
  if (look->length == 0) return Received{Received::Kind::kEnd, 0, 0, false};
  if (look->control_cut) return TakeBytesAndCopies(socket, data, capacity, fds);
  // Not more than the look has seen: descriptors may have come after it.
  return Take(socket, data, static_cast<size_t>(look->length), fds, false);
}

Result<void> EndBytes(int socket) {
  if (::shutdown(socket, SHUT_WR) < 0) return SystemError{errno, "shutdown"};
  return {};
}

void CloseStream(UniqueFd socket, bool alone, bool ended, const std::shared_ptr<Sender>& sender) {
  if (ended) return;
  if (alone) {
    ::shutdown(socket.get(), SHUT_RD);
    if (Drain(socket.get(), sender)) return;
    ::shutdown(socket.get(), SHUT_RDWR);  // the peer sees the end immediately
  }
  // Another holder may hold its lock: even to inspect the queue would block.
  (void)CloseForeignFiles({{socket.release(), sender}}, Wait::kAMoment);
}

}  // namespace dmabuf::os
