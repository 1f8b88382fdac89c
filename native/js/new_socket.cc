#include "js/new_socket.h"

#include <cerrno>
#include <memory>
#include <utility>

#include "os/unix_socket.h"

namespace dmabuf::js {

Result<uint32_t> AddSocket(Call& call, HandleKind kind, UniqueFd socket) {
  const Result<os::FileStatus> status = os::StatusOf(socket.get());
  if (!status) return status.error();
  Handles& handles = *call.addon().handles;
  const uint32_t slot = handles.Add(kind, std::move(socket), *status);
  if (kind != HandleKind::kChannel) return slot;
  Handle& channel = *handles.Find(slot);
  channel.connection = std::make_unique<Connection>();
  // Nobody else has it: the marks are seen by nobody else.
  channel.connection->marked = static_cast<bool>(os::MarkMessages(channel.fd.get(), true));
  return slot;
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
