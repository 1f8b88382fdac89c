#include "js/new_socket.h"

#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "os/entrusted.h"
#include "os/stream_socket.h"
#include "os/unix_socket.h"

namespace dmabuf::js {

int SocketTypeOf(HandleKind kind) {
  const bool is_stream = kind == HandleKind::kStream || kind == HandleKind::kStreamServer;
  return is_stream ? SOCK_STREAM : SOCK_SEQPACKET;
}

Result<uint32_t> AddSocket(Call& call, HandleKind kind, UniqueFd socket) {
  const Result<os::FileStatus> status = os::StatusOf(socket.get());
  if (!status) return status.error();
  Handles& handles = *call.addon().handles;
  const uint32_t slot = handles.Add(kind, std::move(socket), *status);
  if (kind != HandleKind::kChannel && kind != HandleKind::kStream) return slot;
  Handle& end = *handles.Find(slot);
  end.connection = std::make_unique<Connection>();
  if (kind == HandleKind::kStream) {
    end.connection->alone = true;
    (void)os::KeepUrgentInline(end.fd.get());
  } else {
    // Nobody else has it: the marks are seen by nobody else.
    end.connection->marked = static_cast<bool>(os::MarkMessages(end.fd.get(), true));
  }
  return slot;
}

napi_value YieldPair(Call& call, HandleKind kind) {
  Result<std::pair<UniqueFd, UniqueFd>> ends = os::CreateSocketPair(SocketTypeOf(kind));
  if (!ends) return call.Fail(ends.error()), nullptr;
  const Result<uint32_t> first = AddSocket(call, kind, std::move(ends->first));
  if (!first) return call.Fail(first.error()), nullptr;
  const Result<uint32_t> second = AddSocket(call, kind, std::move(ends->second));
  if (!second) {
    (void)call.addon().handles->Close(*first);  // a socket has no mappings
    return call.Fail(second.error()), nullptr;
  }
  call.addon().unclaimed->Reclaim();
  call.addon().unclaimed->AddSlot(*first);
  call.addon().unclaimed->AddSlot(*second);
  call.addon().Leave(Register::kFirstEnd, *first);
  call.addon().Leave(Register::kSecondEnd, *second);
  return nullptr;
}

napi_value AdoptConnection(Call& call, HandleKind kind) {
  int32_t fd = -1;
  if (!call.Read(0, &fd)) return nullptr;
  const Result<void> connected = os::CheckConnection(fd, SocketTypeOf(kind));
  if (!connected) return call.Fail(connected.error()), nullptr;
  const Result<os::FileStatus> status = os::StatusOf(fd);
  if (!status) return call.Fail(status.error()), nullptr;
  const uint32_t slot = call.addon().handles->Add(kind, UniqueFd(fd), *status);
  call.addon().handles->Find(slot)->connection = std::make_unique<Connection>();
  // The caller knows the number, and so may other code.
  os::Redeem(fd);
  return call.YieldTaken(slot);
}

napi_value ReturnSocket(Call& call, HandleKind kind, Result<UniqueFd> socket) {
  // Not an error: JavaScript waits.
  if (!socket && socket.error().number == EAGAIN) return call.Number(int32_t{-EAGAIN});
  if (!socket) return call.Fail(socket.error()), nullptr;
  const Result<uint32_t> slot = AddSocket(call, kind, std::move(*socket));
  return slot ? call.Yield(*slot) : (call.Fail(slot.error()), nullptr);
}

bool ReadAddress(Call& call, size_t index, std::string_view* address) {
  uint8_t* bytes = nullptr;
  size_t length = 0;
  if (!call.Read(index, &bytes, &length)) return false;
  *address = {reinterpret_cast<const char*>(bytes), length};
  return true;
}

}  // namespace dmabuf::js
