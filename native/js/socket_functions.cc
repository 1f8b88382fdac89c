#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "js/arrivals.h"
#include "js/functions.h"
#include "js/new_socket.h"
#include "os/closer.h"
#include "os/entrusted.h"
#include "os/file_kind.h"
#include "os/process.h"
#include "os/unix_socket.h"

namespace dmabuf::js {
namespace {

bool FindChannel(Call& call, Handle** handle) {
  return call.Read(0, HandleKind::kChannel, Identity::kIfLent, handle);
}

// The end of a connection: a channel or a stream.
bool FindEnd(Call& call, Handle** handle) {
  uint32_t slot = 0;
  if (!call.ReadAny(0, Identity::kIfLent, &slot, handle)) return false;
  return (*handle)->connection != nullptr || call.Fail("ERR_DMABUF_CLOSED");
}

// What JavaScript wants to send as pairs in the registers: whether it is a slot, and that or the number of
// a descriptor.
bool ReadSendable(Call& call, double is_slot, double value, const Connection& connection, int* fd) {
  if (is_slot == 0) {
    *fd = static_cast<int>(value);
    return true;
  }
  Handle* handle = call.addon().handles->Find(static_cast<uint32_t>(value));
  if (handle == nullptr) return call.Fail("ERR_DMABUF_CLOSED");
  if (handle->lent && !call.CheckIdentity(*handle)) return false;
  Share(*handle, connection.sender);
  *fd = handle->fd.get();
  return true;
}

// Says what has become of a message that is being thrown away; 0 where there is none.
int32_t Discarded(AddonData& addon, Connection& connection) {
  if (!connection.discarding) return 0;
  if (!connection.discarding->done) {
    // What takes longer to throw away brought what cannot be closed.
    const int64_t since = Milliseconds() - connection.discarding_since;
    if (since > os::kMostStandstill / 1'000'000) connection.sender->dropped = true;
    return connection.sender->dropped ? kDropped : kLater;
  }
  connection.discarding.reset();
  addon.Leave(Register::kHandleCount, connection.delivered);
  return kHandlesCut;
}

int32_t OutcomeOf(const os::Received& received) {
  switch (received.kind) {
    case os::Received::Kind::kNothing:
      return kNothing;
    case os::Received::Kind::kEnd:
      return kEnd;
    case os::Received::Kind::kDataTruncated:
      return kDataCut;
    default:
      return kHandlesCut;
  }
}

napi_value CreateChannelPair(Call& call) { return YieldPair(call, HandleKind::kChannel); }

napi_value AdoptChannel(Call& call) { return AdoptConnection(call, HandleKind::kChannel); }

napi_value MarkCloseOnExec(Call& call) {
  uint32_t slot = 0;
  Handle* socket = nullptr;
  if (!call.ReadAny(0, Identity::kIfLent, &slot, &socket)) return nullptr;
  const Result<void> marked = os::MarkCloseOnExec(socket->fd.get());
  if (!marked) call.Fail(marked.error());
  return nullptr;
}

napi_value Accept(Call& call) {
  uint32_t slot = 0;
  Handle* server = nullptr;
  if (!call.ReadAny(0, Identity::kAsked, &slot, &server)) return nullptr;
  const bool is_stream = server->kind == HandleKind::kStreamServer;
  if (!is_stream && server->kind != HandleKind::kServer) return call.Fail("ERR_DMABUF_CLOSED"), nullptr;
  const HandleKind kind = is_stream ? HandleKind::kStream : HandleKind::kChannel;
  return ReturnSocket(call, kind, os::Accept(server->fd.get()));
}

napi_value DescribePeer(Call& call) {
  Handle* end = nullptr;
  if (!FindEnd(call, &end)) return nullptr;
  const Result<os::PeerCredentials> peer = os::DescribePeer(end->fd.get());
  if (!peer) return call.Fail(peer.error()), nullptr;
  end->connection->sender->user = peer->uid;
  AddonData& addon = call.addon();
  addon.Leave(Register::kPid, peer->pid);
  addon.Leave(Register::kUid, peer->uid);
  addon.Leave(Register::kGid, peer->gid);
  return nullptr;
}

napi_value LimitMessages(Call& call) {
  Handle* channel = nullptr;
  uint64_t wanted = 0;
  if (!FindChannel(call, &channel) || !call.Read(1, &wanted)) return nullptr;
  if (wanted > 0) {
    const Result<void> set = os::SetMessageLimit(channel->fd.get(), wanted);
    if (!set) return call.Fail(set.error()), nullptr;
  }
  const Result<size_t> limit = os::MessageLimitOf(channel->fd.get());
  if (!limit) return call.Fail(limit.error()), nullptr;
  return call.Number(static_cast<double>(*limit));
}

napi_value Send(Call& call) {
  Handle* end = nullptr;
  uint8_t* data = nullptr;
  size_t length = 0;
  uint32_t count = 0;
  if (!FindEnd(call, &end) || !call.Read(1, &data, &length) || !call.Read(2, &count)) return nullptr;
  if (count > os::kMaxHandles) return call.Fail(SystemError{EINVAL, "sendmsg"}), nullptr;
  int fds[os::kMaxHandles];
  const double* pair = call.addon().From(Register::kHandles);
  for (size_t index = 0; index < count; index++, pair += 2) {
    if (!ReadSendable(call, pair[0], pair[1], *end->connection, &fds[index])) return nullptr;
  }
  const Result<size_t> sent = os::Send(end->fd.get(), data, length, fds, count);
  if (sent) return call.Number(static_cast<double>(*sent));
  if (sent.error().number == EAGAIN) return call.Number(int32_t{-EAGAIN});
  return call.Fail(sent.error()), nullptr;
}

napi_value Hold(Call& call) {
  Handle* end = nullptr;
  bool is_slot = false;
  uint32_t value = 0;
  if (!FindEnd(call, &end) || !call.Read(1, &is_slot) || !call.Read(2, &value)) return nullptr;
  const Connection& connection = *end->connection;
  int fd = -1;
  if (!ReadSendable(call, is_slot ? 1 : 0, value, connection, &fd)) return nullptr;
  Result<UniqueFd> copy = os::Duplicate(fd);
  if (!copy) return call.Fail(copy.error()), nullptr;
  const std::shared_ptr<os::Sender> peer = connection.sender;
  const uint32_t slot = call.addon().handles->Add(HandleKind::kMessage, std::move(*copy), os::FileStatus{});
  Share(*call.addon().handles->Find(slot), peer);
  return call.Yield(slot);
}

napi_value TakeMessage(Call& call) {
  uint8_t* data = nullptr;
  size_t room = 0;
  if (!call.Read(0, &data, &room)) return nullptr;
  const std::vector<uint8_t>& receive_buffer = call.addon().receive_buffer;
  const size_t length = std::min(room, receive_buffer.size());
  if (length > 0) std::memcpy(data, receive_buffer.data(), length);
  return nullptr;
}

napi_value Receive(Call& call) {
  Handle* channel = nullptr;
  uint32_t capacity = 0;
  if (!FindChannel(call, &channel) || !call.Read(1, &capacity)) return nullptr;
  AddonData& addon = call.addon();
  if (capacity > addon.receive_buffer.size()) addon.receive_buffer.resize(capacity);
  Connection& connection = *channel->connection;
  const os::Reception reception = os::ReceptionOf(*connection.sender);
  if (reception == os::Reception::kNever) ::shutdown(channel->fd.get(), SHUT_RD);
  if (reception != os::Reception::kNow)
    return call.Number(int32_t{reception == os::Reception::kLater ? kLater : kDropped});
  if (const int32_t outcome = Discarded(addon, connection); outcome != 0) return call.Number(outcome);
  os::Descriptors fds(connection.sender);
  const os::ReceiveMode mode{connection.marked, HasRoom(addon.room)};
  const Result<os::Received> received =
      os::Receive(channel->fd.get(), mode, addon.receive_buffer.data(), capacity, &fds);
  if (!received) return call.Fail(received.error()), nullptr;
  if (received->kind == os::Received::Kind::kNoRoom) {
    connection.delivered = received->delivered;
    connection.discarding_since = Milliseconds();
    connection.discarding = os::DiscardMessage(channel->fd.get(), connection.sender);
    return call.Number(int32_t{kLater});
  }
  addon.Leave(Register::kHandleCount, received->delivered);
  addon.Leave(Register::kMessageLength, received->length);
  if (received->kind != os::Received::Kind::kMessage) {
    if (received->kind == os::Received::Kind::kEnd) connection.ended = true;
    return call.Number(OutcomeOf(*received));
  }
  // A kernel that marks nothing shows it by a message that must have been.
  if (!received->marked && received->length > 0) connection.marked = false;
  addon.room.left -= std::min(addon.room.left, fds.count());
  AddArrivals(call, fds, connection, Arriving::kAsObjects);
  return call.Number(static_cast<double>(received->length));
}

napi_value CloseNumbers(Call& call) {
  double* numbers = nullptr;
  size_t room = 0;
  uint32_t count = 0;
  if (!call.Read(0, &numbers, &room) || !call.Read(1, &count)) return nullptr;
  if (count > room) return call.Fail(SystemError{EINVAL, "close"}), nullptr;
  std::vector<os::ForeignFile> files;
  for (size_t index = 0; index < count; index++) {
    const int fd = static_cast<int>(numbers[index]);
    const Result<os::ForeignStatus> status = os::StatusWithoutServer(fd);
    files.push_back({fd, os::Redeem(fd, status), status});
  }
  const Result<void> closed = os::CloseForeignFiles(files, os::Wait::kAMoment);
  if (!closed) call.Fail(closed.error());
  return nullptr;
}

napi_value ImportFromProcess(Call& call) {
  int32_t pid = 0;
  int32_t fd = -1;
  if (!call.Read(0, &pid) || !call.Read(1, &fd)) return nullptr;
  Result<UniqueFd> copy = os::CopyFromProcess(pid, fd);
  if (!copy) return call.Fail(copy.error()), nullptr;
  const Result<os::FileDescription> file = os::DescribeForeignFile(copy->get());
  if (!file || file->kind != os::FileKind::kDmaBuf) (void)os::CloseForeignFiles({{copy->release(), nullptr}});
  if (!file) return call.Fail(file.error()), nullptr;
  if (file->kind != os::FileKind::kDmaBuf) return call.Fail("ERR_DMABUF_NOT_DMABUF"), nullptr;
  const uint32_t slot = call.addon().handles->Add(HandleKind::kDmaBuf, std::move(*copy), file->status);
  Share(*call.addon().handles->Find(slot), nullptr);
  return call.Yield(slot);
}

}  // namespace

const Exports kSocketFunctions = {
    {"createChannelPair", Entry<CreateChannelPair, 0>},
    {"adoptChannel", Entry<AdoptChannel, 1>},
    {"markCloseOnExec", Entry<MarkCloseOnExec, 1>},
    {"accept", Entry<Accept, 1>},
    {"describePeer", Entry<DescribePeer, 1>},
    {"limitMessages", Entry<LimitMessages, 2>},
    {"send", Entry<Send, 3>},
    {"hold", Entry<Hold, 3>},
    {"takeMessage", Entry<TakeMessage, 1>},
    {"receive", Entry<Receive, 2>},
    {"closeNumbers", Entry<CloseNumbers, 2>},
    {"importFromProcess", Entry<ImportFromProcess, 2>},
};

}  // namespace dmabuf::js
