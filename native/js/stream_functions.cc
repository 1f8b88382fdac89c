#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "js/arrivals.h"
#include "js/functions.h"
#include "js/new_socket.h"
#include "os/closer.h"
#include "os/entrusted.h"
#include "os/file.h"
#include "os/stream_socket.h"
#include "os/unix_socket.h"

namespace dmabuf::js {
namespace {

bool FindStream(Call& call, Handle** stream) {
  return call.Read(0, HandleKind::kStream, Identity::kIfLent, stream);
}

napi_value CreateStreamPair(Call& call) { return YieldPair(call, HandleKind::kStream); }

napi_value AdoptStream(Call& call) {
  const napi_value adopted = AdoptConnection(call, HandleKind::kStream);
  int32_t fd = -1;
  if (adopted != nullptr && call.Read(0, &fd)) (void)os::KeepUrgentInline(fd);
  return adopted;
}

napi_value AdoptStreamServer(Call& call) {
  int32_t fd = -1;
  if (!call.Read(0, &fd)) return nullptr;
  const Result<void> listens = os::CheckListener(fd, SOCK_STREAM);
  if (!listens) return call.Fail(listens.error()), nullptr;
  const Result<os::FileStatus> status = os::StatusOf(fd);
  if (!status) return call.Fail(status.error()), nullptr;
  const uint32_t slot = call.addon().handles->Add(HandleKind::kStreamServer, UniqueFd(fd), *status);
  // The caller knows the number, and other processes may listen there, too: it is never shut down.
  Lend(*call.addon().handles->Find(slot));
  os::Redeem(fd);
  return call.YieldTaken(slot);
}

napi_value AddressOfServer(Call& call) {
  Handle* server = nullptr;
  if (!call.Read(0, HandleKind::kStreamServer, Identity::kAsked, &server)) return nullptr;
  const Result<std::string> address = os::AddressOfSocket(server->fd.get());
  return address ? call.Text(*address) : (call.Fail(address.error()), nullptr);
}

// How JavaScript gets the descriptors that came.
enum How : uint32_t { kKept, kObjects, kNumbers };

int32_t OutcomeOf(const os::Received& received) {
  switch (received.kind) {
    case os::Received::Kind::kNothing:
      return kNothing;
    case os::Received::Kind::kEnd:
      return kEnd;
    default:
      return kHandlesCut;
  }
}

napi_value ReceiveTo(Call& call, const Handle* stream, uint8_t* data, size_t capacity, uint32_t how) {
  AddonData& addon = call.addon();
  Connection& connection = *stream->connection;
  const os::Reception reception = os::ReceptionOf(*connection.sender);
  if (reception == os::Reception::kNever) ::shutdown(stream->fd.get(), SHUT_RD);
  if (reception != os::Reception::kNow)
    return call.Number(int32_t{reception == os::Reception::kLater ? kLater : kDropped});
  os::Descriptors fds(connection.sender);
  const Result<os::Received> received =
      os::ReceiveBytes(stream->fd.get(), HasRoom(addon.room), data, capacity, &fds);
  if (!received) return call.Fail(received.error()), nullptr;
  if (received->kind == os::Received::Kind::kNoRoom)
    return call.Fail(SystemError{EMFILE, "recvmsg"}), nullptr;
  addon.Leave(Register::kHandleCount, received->delivered);
  if (received->kind != os::Received::Kind::kMessage) {
    if (received->kind == os::Received::Kind::kEnd) connection.ended = true;
    return call.Number(OutcomeOf(*received));
  }
  addon.room.left -= std::min(addon.room.left, fds.count());
  if (how == kKept) {
    for (size_t index = 0; index < fds.count(); index++) connection.arrived.push_back(fds.Take(index));
  } else if (fds.count() > 0) {
    AddArrivals(call, fds, connection, how == kObjects ? Arriving::kAsObjects : Arriving::kAsNumbers);
  }
  return call.Number(static_cast<double>(received->length));
}

napi_value ReceiveBytes(Call& call) {
  Handle* stream = nullptr;
  uint32_t capacity = 0;
  uint32_t how = kKept;
  if (!FindStream(call, &stream) || !call.Read(1, &capacity) || !call.Read(2, &how)) return nullptr;
  std::vector<uint8_t>& buffer = call.addon().receive_buffer;
  if (capacity > buffer.size()) buffer.resize(capacity);
  return ReceiveTo(call, stream, buffer.data(), capacity, how);
}

napi_value ReceiveInto(Call& call) {
  Handle* stream = nullptr;
  uint8_t* data = nullptr;
  size_t capacity = 0;
  if (!FindStream(call, &stream) || !call.Read(1, &data, &capacity)) return nullptr;
  // Without room for a byte, no bytes would be taken for the end.
  if (capacity == 0) return call.Fail(SystemError{EINVAL, "recvmsg"}), nullptr;
  return ReceiveTo(call, stream, data, capacity, kKept);
}

napi_value TakeArrival(Call& call) {
  Handle* stream = nullptr;
  bool recognise = false;
  if (!FindStream(call, &stream) || !call.Read(1, &recognise)) return nullptr;
  Connection& connection = *stream->connection;
  const bool is_any = !connection.arrived.empty();
  if (!is_any) return call.Boolean(false);
  UniqueFd fd = std::move(connection.arrived.front());
  connection.arrived.pop_front();
  call.addon().unclaimed->Reclaim();
  AddArrival(call, std::move(fd), connection, recognise ? Arriving::kAsObjects : Arriving::kAsNumbers,
             call.addon().From(Register::kHandles));
  call.addon().Leave(Register::kHandleCount, 1);
  return call.Boolean(true);
}

napi_value EndBytes(Call& call) {
  Handle* stream = nullptr;
  if (!FindStream(call, &stream)) return nullptr;
  const Result<void> ended = os::EndBytes(stream->fd.get());
  if (!ended) call.Fail(ended.error());
  return nullptr;
}

}  // namespace

const Exports kStreamFunctions = {
    {"createStreamPair", Entry<CreateStreamPair, 0>},
    {"adoptStream", Entry<AdoptStream, 1>},
    {"adoptStreamServer", Entry<AdoptStreamServer, 1>},
    {"addressOfServer", Entry<AddressOfServer, 1>},
    {"receiveBytes", Entry<ReceiveBytes, 3>},
    {"receiveInto", Entry<ReceiveInto, 2>},
    {"takeArrival", Entry<TakeArrival, 2>},
    {"endBytes", Entry<EndBytes, 1>},
};

}  // namespace dmabuf::js
