#include <cerrno>
#include <climits>

#include "js/functions.h"
#include "os/file_kind.h"
#include "os/process.h"
#include "os/unix_socket.h"

namespace dmabuf {
namespace {

static_assert(Unclaimed::kRoom >= kMaxHandles, "a message's handles may all be unclaimed");
static_assert(kRegisterCount >= 2 + 2 * kMaxHandles, "a message's handles go through the registers");

Result<uint32_t> AddSocket(Call& call, HandleKind kind, UniqueFd socket) {
  const Result<FileStatus> status = StatusOf(socket.get());
  if (!status) return status.error();
  return call.addon().handles->Add(kind, std::move(socket), *status);
}

napi_value ReturnSocket(Call& call, HandleKind kind, Result<UniqueFd> socket) {
  // Not an error: JavaScript waits.
  if (!socket && socket.error().number == EAGAIN) return call.Number(int32_t{-EAGAIN});
  if (!socket) return call.Fail(socket.error()), nullptr;
  const Result<uint32_t> handle = AddSocket(call, kind, std::move(*socket));
  return handle ? call.Yield(*handle) : (call.Fail(handle.error()), nullptr);
}

bool ReadAddress(Call& call, size_t index, std::string_view* address) {
  uint8_t* bytes = nullptr;
  size_t length = 0;
  if (!call.Read(index, &bytes, &length)) return false;
  *address = {reinterpret_cast<const char*>(bytes), length};
  return true;
}

// Who was never told the number of a channel's descriptor can hardly have closed it; the look costs a fifth
// of a message.
bool FindChannel(Call& call, Handle** handle) {
  return call.Read(0, HandleKind::kChannel, handle) && (!(*handle)->lent || call.CheckIdentity(**handle));
}

// What JavaScript wants to send as pairs in the registers: whether it is a handle, and its number or that of
// a descriptor.
bool ReadSendable(Call& call, double is_handle, double value, int* fd) {
  if (is_handle == 0) {
    *fd = static_cast<int>(value);
    return true;
  }
  Handle* handle = call.addon().handles->Find(static_cast<uint32_t>(value));
  if (handle == nullptr) return call.Fail("ERR_DMABUF_CLOSED");
  if (handle->lent && !call.CheckIdentity(*handle)) return false;
  *fd = handle->fd.get();
  return true;
}

// Hands a descriptor that a message brought to JavaScript: as a handle where it is one of our kinds.
void AddArrival(Call& call, UniqueFd fd, const FileDescription& file, double* registers) {
  Handles& handles = *call.addon().handles;
  switch (file.kind) {
    case FileKind::kDmaBuf:
      registers[0] = 1;
      registers[1] = handles.Add(HandleKind::kDmaBuf, std::move(fd), file.status);
      return;
    case FileKind::kSyncFile:
      registers[0] = 2;
      registers[1] = handles.Add(HandleKind::kSyncFile, std::move(fd), file.status);
      return;
    case FileKind::kOther:
      registers[0] = 0;
      registers[1] = fd.release();
  }
}

void CloseArrival(Call& call, const double* registers) {
  if (registers[0] == 0) {
    CloseForeignFiles({static_cast<int>(registers[1])});
  } else {
    (void)call.addon().handles->Close(static_cast<uint32_t>(registers[1]));
  }
}

// All of them, or none, when no descriptor is left that looking at them would take.
bool ReturnArrivals(Call& call, Descriptors& fds) {
  double* const registers = call.addon().registers;
  for (size_t index = 0; index < fds.count(); index++) {
    const Result<FileDescription> file = DescribeForeignFile(fds.get(index));
    if (!file) {
      while (index-- > 0) CloseArrival(call, registers + 2 + 2 * index);
      return false;
    }
    AddArrival(call, fds.Take(index), *file, registers + 2 + 2 * index);
  }
  Unclaimed& unclaimed = *call.addon().unclaimed;
  unclaimed.Reclaim();
  for (size_t index = 0; index < fds.count(); index++) {
    const double value = registers[3 + 2 * index];
    if (registers[2 + 2 * index] == 0) {
      unclaimed.AddFd(static_cast<int>(value));
    } else {
      unclaimed.AddHandle(static_cast<uint32_t>(value));
    }
  }
  return true;
}

}  // namespace

napi_value CreateChannelPair(Call& call) {
  Result<std::pair<UniqueFd, UniqueFd>> ends = CreateSocketPair();
  if (!ends) return call.Fail(ends.error()), nullptr;
  const Result<uint32_t> first = AddSocket(call, HandleKind::kChannel, std::move(ends->first));
  if (!first) return call.Fail(first.error()), nullptr;
  const Result<uint32_t> second = AddSocket(call, HandleKind::kChannel, std::move(ends->second));
  if (!second) {
    (void)call.addon().handles->Close(*first);  // a socket has no mappings
    return call.Fail(second.error()), nullptr;
  }
  call.addon().unclaimed->Reclaim();
  call.addon().unclaimed->AddHandle(*first);
  call.addon().unclaimed->AddHandle(*second);
  call.addon().registers[0] = *first;
  call.addon().registers[1] = *second;
  return nullptr;
}

napi_value ConnectChannel(Call& call) {
  std::string_view address;
  if (!ReadAddress(call, 0, &address)) return nullptr;
  return ReturnSocket(call, HandleKind::kChannel, ConnectTo(address));
}

napi_value AdoptChannel(Call& call) {
  int32_t fd = -1;
  if (!call.Read(0, &fd)) return nullptr;
  const Result<void> connected = CheckConnection(fd);
  if (!connected) return call.Fail(connected.error()), nullptr;
  const Result<FileStatus> status = StatusOf(fd);
  if (!status) return call.Fail(status.error()), nullptr;
  return call.YieldTaken(call.addon().handles->Add(HandleKind::kChannel, UniqueFd(fd), *status));
}

napi_value IsAddressAlive(Call& call) {
  std::string_view address;
  if (!ReadAddress(call, 0, &address)) return nullptr;
  const Result<bool> alive = IsSocketAlive(address);
  return alive ? call.Boolean(*alive) : (call.Fail(alive.error()), nullptr);
}

napi_value MarkCloseOnExec(Call& call) {
  Handle* channel = nullptr;
  if (!FindChannel(call, &channel)) return nullptr;
  const Result<void> marked = SetCloseOnExec(channel->fd.get());
  if (!marked) call.Fail(marked.error());
  return nullptr;
}

napi_value LockSocketFolder(Call& call) {
  char path[PATH_MAX];
  if (!call.Read(0, path, sizeof path)) return nullptr;
  return ReturnSocket(call, HandleKind::kLock, LockFolder(path));
}

napi_value ListenForChannels(Call& call) {
  std::string_view address;
  uint32_t mode = 0;
  if (!ReadAddress(call, 0, &address) || !call.Read(1, &mode)) return nullptr;
  return ReturnSocket(call, HandleKind::kServer, ListenOn(address, mode));
}

napi_value AcceptChannel(Call& call) {
  Handle* server = nullptr;
  if (!call.Read(0, HandleKind::kServer, &server) || !call.CheckIdentity(*server)) return nullptr;
  return ReturnSocket(call, HandleKind::kChannel, Accept(server->fd.get()));
}

napi_value DescribePeer(Call& call) {
  Handle* channel = nullptr;
  if (!FindChannel(call, &channel)) return nullptr;
  const Result<PeerCredentials> peer = PeerOf(channel->fd.get());
  if (!peer) return call.Fail(peer.error()), nullptr;
  double* registers = call.addon().registers;
  registers[0] = peer->pid;
  registers[1] = peer->uid;
  registers[2] = peer->gid;
  return nullptr;
}

napi_value LimitMessages(Call& call) {
  Handle* channel = nullptr;
  uint64_t wanted = 0;
  if (!FindChannel(call, &channel) || !call.Read(1, &wanted)) return nullptr;
  if (wanted > 0) {
    const Result<void> set = SetMessageLimit(channel->fd.get(), wanted);
    if (!set) return call.Fail(set.error()), nullptr;
  }
  const Result<size_t> limit = MessageLimitOf(channel->fd.get());
  if (!limit) return call.Fail(limit.error()), nullptr;
  return call.Number(static_cast<double>(*limit));
}

napi_value SendOnChannel(Call& call) {
  Handle* channel = nullptr;
  uint8_t* data = nullptr;
  size_t length = 0;
  uint32_t count = 0;
  if (!FindChannel(call, &channel) || !call.Read(1, &data, &length) || !call.Read(2, &count)) return nullptr;
  if (count > kMaxHandles) return call.Fail(SystemError{EINVAL, "sendmsg"}), nullptr;
  int fds[kMaxHandles];
  const double* registers = call.addon().registers;
  for (size_t index = 0; index < count; index++) {
    if (!ReadSendable(call, registers[2 * index], registers[2 * index + 1], &fds[index])) return nullptr;
  }
  const Result<void> sent = SendMessage(channel->fd.get(), data, length, fds, count);
  if (sent) return call.Number(int32_t{0});
  if (sent.error().number == EAGAIN) return call.Number(int32_t{-EAGAIN});
  return call.FailFor(*channel, sent.error());
}

napi_value HoldForSending(Call& call) {
  bool is_handle = false;
  uint32_t value = 0;
  if (!call.Read(0, &is_handle) || !call.Read(1, &value)) return nullptr;
  int fd = -1;
  if (!ReadSendable(call, is_handle ? 1 : 0, value, &fd)) return nullptr;
  Result<UniqueFd> copy = Duplicate(fd);
  if (!copy) return call.Fail(copy.error()), nullptr;
  return call.Yield(call.addon().handles->Add(HandleKind::kMessage, std::move(*copy), FileStatus{}));
}

napi_value SetArrivals(Call& call) {
  AddonData& addon = call.addon();
  if (!call.Read(0, &addon.arrivals, &addon.arrivals_length)) return nullptr;
  if (addon.arrivals_reference != nullptr) napi_delete_reference(call.env(), addon.arrivals_reference);
  napi_create_reference(call.env(), call.argument(0), 1, &addon.arrivals_reference);
  return nullptr;
}

napi_value ReceiveOnChannel(Call& call) {
  Handle* channel = nullptr;
  uint32_t capacity = 0;
  if (!FindChannel(call, &channel) || !call.Read(1, &capacity)) return nullptr;
  AddonData& addon = call.addon();
  if (capacity > addon.arrivals_length) return call.Fail(SystemError{EINVAL, "recvmsg"}), nullptr;
  Descriptors fds;
  const Result<Received> received = ReceiveMessage(channel->fd.get(), addon.arrivals, capacity, &fds);
  if (!received) return call.FailFor(*channel, received.error());
  addon.registers[0] = static_cast<double>(received->delivered);
  addon.registers[1] = static_cast<double>(received->length);
  switch (received->kind) {
    case Received::Kind::kMessage:
      return call.Number(ReturnArrivals(call, fds) ? static_cast<double>(received->length) : -4.0);
    case Received::Kind::kNothing:
      return call.Number(int32_t{-1});
    case Received::Kind::kEnd:
      return call.Number(int32_t{-2});
    case Received::Kind::kDataTruncated:
      return call.Number(int32_t{-3});
    default:
      return call.Number(int32_t{-4});
  }
}

napi_value ImportFromProcess(Call& call) {
  int32_t pid = 0;
  int32_t fd = -1;
  if (!call.Read(0, &pid) || !call.Read(1, &fd)) return nullptr;
  Result<UniqueFd> copy = CopyFromProcess(pid, fd);
  if (!copy) return call.Fail(copy.error()), nullptr;
  const Result<FileDescription> file = DescribeForeignFile(copy->get());
  if (!file || file->kind != FileKind::kDmaBuf) CloseForeignFiles({copy->release()});
  if (!file) return call.Fail(file.error()), nullptr;
  if (file->kind != FileKind::kDmaBuf) return call.Fail("ERR_DMABUF_NOT_DMABUF"), nullptr;
  return call.Yield(call.addon().handles->Add(HandleKind::kDmaBuf, std::move(*copy), file->status));
}

}  // namespace dmabuf
