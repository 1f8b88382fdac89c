#include <cerrno>
#include <chrono>
#include <climits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "js/functions.h"
#include "js/new_socket.h"
#include "os/apart.h"
#include "os/file.h"
#include "os/path_lookup.h"
#include "os/socket_file.h"
#include "os/unix_socket.h"

namespace dmabuf::js {
namespace {

// Has `work` done by a thread, and waits for it for so many milliseconds.
template <typename Work>
auto LookUp(const std::string& path, uint32_t patience, Work work) -> decltype(work()) {
  using Outcome = decltype(work());
  const auto outcome = std::make_shared<std::optional<Outcome>>();
  const Result<std::shared_ptr<os::PathLookup>> lookup =
      os::PathLookup::Begin(path, [outcome, work = std::move(work)] { outcome->emplace(work()); });
  if (!lookup) return lookup.error();
  if (!(*lookup)->Wait(std::chrono::milliseconds(patience))) return SystemError{ETIMEDOUT, "open"};
  return std::move(**outcome);
}

// A copy of a place's descriptor, for a thread that may need it longer than the place is there.
Result<std::shared_ptr<const UniqueFd>> CopyOf(const Handle& place) {
  Result<UniqueFd> copy = os::Duplicate(place.fd.get());
  if (!copy) return copy.error();
  return std::make_shared<const UniqueFd>(std::move(*copy));
}

// The same with a place's own descriptor.
template <typename Work>
auto LookUpAt(const Handle& place, uint32_t patience, Work work) -> decltype(work(0)) {
  const Result<std::shared_ptr<const UniqueFd>> copy = CopyOf(place);
  if (!copy) return copy.error();
  return LookUp(place.at_path->path, patience,
                [copy = *copy, work = std::move(work)] { return work(copy->get()); });
}

bool ReadText(Call& call, size_t index, std::string* text) {
  char bytes[PATH_MAX];
  if (!call.Read(index, bytes, sizeof bytes)) return false;
  *text = bytes;
  return true;
}

// The slot of a name that was opened, whose mode and user are in the registers.
napi_value YieldPlace(Call& call, const std::string& path, Result<os::NamedFile> file) {
  if (!file) return call.Fail(file.error()), nullptr;
  call.addon().Leave(Register::kMode, file->mode);
  call.addon().Leave(Register::kUid, file->user);
  Handles& handles = *call.addon().handles;
  const uint32_t slot =
      handles.Add(HandleKind::kPlace, std::move(file->fd), os::FileStatus{file->identity, 0, false, 0});
  handles.Find(slot)->at_path = std::make_unique<AtPath>();
  handles.Find(slot)->at_path->path = path;
  return call.Yield(slot);
}

napi_value ReturnNothing(Call& call, const Result<void>& done) {
  if (!done) call.Fail(done.error());
  return nullptr;
}

// What the thread does: the first lookup is not this process's own.
Result<UniqueFd> ConnectToPath(const std::string& path, int type) {
  const Result<void> found = os::LookUpApart(os::kOwnFolder, path, 0);
  if (!found) return SystemError{found.error().number, "connect"};
  return os::Connect(path, type);
}

napi_value ListenAtName(Call& call, HandleKind kind) {
  std::string_view address;
  uint32_t mode = 0;
  if (!ReadAddress(call, 0, &address) || !call.Read(1, &mode)) return nullptr;
  return ReturnSocket(call, kind, os::Listen(address, SocketTypeOf(kind), mode));
}

bool FindServer(Call& call, Handle** server) {
  uint32_t slot = 0;
  if (!call.ReadAny(0, Identity::kUnasked, &slot, server)) return false;
  const HandleKind kind = (*server)->kind;
  return kind == HandleKind::kServer || kind == HandleKind::kStreamServer || call.Fail("ERR_DMABUF_CLOSED");
}

napi_value ListenAtPath(Call& call, HandleKind kind) {
  Handle* folder = nullptr;
  std::string_view address;
  uint32_t mode = 0;
  uint32_t patience = 0;
  if (!call.Read(0, HandleKind::kPlace, Identity::kUnasked, &folder) || !ReadAddress(call, 1, &address) ||
      !call.Read(2, &mode) || !call.Read(3, &patience)) {
    return nullptr;
  }
  const int type = SocketTypeOf(kind);
  const auto listen = [path = std::string(address), type, mode] { return os::Listen(path, type, mode); };
  Result<UniqueFd> socket = LookUp(folder->at_path->path, patience, listen);
  // Nothing of this is worth waiting for.
  if (!socket) return call.Fail(socket.error()), nullptr;
  return ReturnSocket(call, kind, std::move(socket));
}

napi_value Connect(Call& call) {
  std::string_view address;
  bool is_stream = false;
  if (!ReadAddress(call, 0, &address) || !call.Read(1, &is_stream)) return nullptr;
  const HandleKind kind = is_stream ? HandleKind::kStream : HandleKind::kChannel;
  const int type = SocketTypeOf(kind);
  call.addon().Leave(Register::kIsLookup, 0);
  if (!address.empty() && address[0] == '\0') {
    return ReturnSocket(call, kind, os::Connect(address, type));
  }
  AtPath at_path;
  at_path.kind = kind;
  at_path.path = std::string(address);
  at_path.made = std::make_shared<std::optional<Result<UniqueFd>>>();
  const Result<std::shared_ptr<os::PathLookup>> lookup = os::PathLookup::Begin(
      at_path.path,
      [made = at_path.made, path = at_path.path, type] { made->emplace(ConnectToPath(path, type)); });
  if (!lookup) {
    const SystemError& error = lookup.error();
    return call.Fail(error.number == EBUSY ? SystemError{EBUSY, "connect"} : error), nullptr;
  }
  at_path.lookup = *lookup;
  if (at_path.lookup->WaitAMoment()) return ReturnSocket(call, kind, std::move(**at_path.made));
  Result<UniqueFd> watch = at_path.lookup->Watch();
  const Result<os::FileStatus> status = watch ? os::StatusOf(watch->get()) : watch.error();
  if (!status) {
    at_path.lookup->GiveUp();
    return call.Fail(status.error()), nullptr;
  }
  const uint32_t slot = call.addon().handles->Add(HandleKind::kLookup, std::move(*watch), *status);
  call.addon().handles->Find(slot)->at_path = std::make_unique<AtPath>(std::move(at_path));
  call.addon().Leave(Register::kIsLookup, 1);
  return call.Yield(slot);
}

napi_value FinishConnecting(Call& call) {
  uint32_t slot = 0;
  Handle* handle = nullptr;
  if (!call.Read(0, &slot) || !call.Read(0, HandleKind::kLookup, Identity::kUnasked, &handle)) return nullptr;
  Result<UniqueFd> made = SystemError{EAGAIN, "connect"};
  if (handle->at_path->lookup->is_over()) made = std::move(**handle->at_path->made);
  const HandleKind kind = handle->at_path->kind;
  (void)call.addon().handles->Close(slot);  // it has no mappings
  return ReturnSocket(call, kind, std::move(made));
}

napi_value ConnectingState(Call& call) {
  Handle* handle = nullptr;
  if (!call.Read(0, HandleKind::kLookup, Identity::kUnasked, &handle)) return nullptr;
  os::PathLookup& lookup = *handle->at_path->lookup;
  return call.Number(lookup.is_over() ? 2 : int32_t{lookup.IsKeptOut()});
}

napi_value OpenPlace(Call& call) {
  std::string path;
  uint32_t patience = 0;
  if (!ReadText(call, 0, &path) || !call.Read(1, &patience)) return nullptr;
  return YieldPlace(call, path, LookUp(path, patience, [path] { return os::OpenPlace(path); }));
}

napi_value OpenInPlace(Call& call) {
  Handle* folder = nullptr;
  std::string name;
  uint32_t patience = 0;
  if (!call.Read(0, HandleKind::kPlace, Identity::kUnasked, &folder) || !ReadText(call, 1, &name) ||
      !call.Read(2, &patience)) {
    return nullptr;
  }
  const std::string path = folder->at_path->path;
  return YieldPlace(call, path,
                    LookUpAt(*folder, patience, [name](int fd) { return os::OpenInPlace(fd, name); }));
}

napi_value RemoveInPlace(Call& call) {
  Handle* folder = nullptr;
  std::string name;
  uint32_t patience = 0;
  if (!call.Read(0, HandleKind::kPlace, Identity::kUnasked, &folder) || !ReadText(call, 1, &name) ||
      !call.Read(2, &patience)) {
    return nullptr;
  }
  return ReturnNothing(call,
                       LookUpAt(*folder, patience, [name](int fd) { return os::RemoveInPlace(fd, name); }));
}

napi_value ChangeMode(Call& call) {
  Handle* file = nullptr;
  uint32_t mode = 0;
  uint32_t patience = 0;
  if (!call.Read(0, HandleKind::kPlace, Identity::kUnasked, &file) || !call.Read(1, &mode) ||
      !call.Read(2, &patience)) {
    return nullptr;
  }
  return ReturnNothing(call, LookUpAt(*file, patience, [mode](int fd) { return os::ChangeMode(fd, mode); }));
}

napi_value IsSocketAlive(Call& call) {
  Handle* file = nullptr;
  uint32_t patience = 0;
  if (!call.Read(0, HandleKind::kPlace, Identity::kUnasked, &file) || !call.Read(1, &patience))
    return nullptr;
  const Result<bool> alive = LookUpAt(*file, patience, os::IsSocketAlive);
  return alive ? call.Boolean(*alive) : (call.Fail(alive.error()), nullptr);
}

napi_value LockPlace(Call& call) {
  Handle* folder = nullptr;
  uint32_t patience = 0;
  if (!call.Read(0, HandleKind::kPlace, Identity::kUnasked, &folder) || !call.Read(1, &patience))
    return nullptr;
  Result<UniqueFd> lock = LookUpAt(*folder, patience, os::LockPlace);
  if (!lock && lock.error().number == EWOULDBLOCK && lock.error().call == std::string_view("flock")) {
    return call.Number(int32_t{-EAGAIN});
  }
  if (!lock) return call.Fail(lock.error()), nullptr;
  return call.Yield(call.addon().handles->Add(HandleKind::kLock, std::move(*lock), os::FileStatus{}));
}

napi_value Listen(Call& call) { return ListenAtName(call, HandleKind::kServer); }

napi_value ListenToStreams(Call& call) { return ListenAtName(call, HandleKind::kStreamServer); }

napi_value ListenInPlace(Call& call) { return ListenAtPath(call, HandleKind::kServer); }

napi_value ListenToStreamsInPlace(Call& call) { return ListenAtPath(call, HandleKind::kStreamServer); }

napi_value KeepPlace(Call& call) {
  Handle* server = nullptr;
  Handle* file = nullptr;
  Handle* folder = nullptr;
  auto at_path = std::make_unique<AtPath>();
  os::SocketFile kept;
  if (!FindServer(call, &server) || !call.Read(1, HandleKind::kPlace, Identity::kUnasked, &folder) ||
      !call.Read(2, HandleKind::kPlace, Identity::kUnasked, &file) || !ReadText(call, 3, &kept.name)) {
    return nullptr;
  }
  Result<std::shared_ptr<const UniqueFd>> copy = CopyOf(*folder);
  if (!copy) return call.Fail(copy.error()), nullptr;
  kept.folder = std::move(*copy);
  kept.identity = file->identity;
  at_path->path = folder->at_path->path;
  at_path->file = std::move(kept);
  server->at_path = std::move(at_path);
  return nullptr;
}

napi_value RemoveSocket(Call& call) {
  Handle* server = nullptr;
  uint32_t patience = 0;
  if (!FindServer(call, &server) || !call.Read(1, &patience)) return nullptr;
  if (!server->at_path) return nullptr;
  const auto remove = [file = *server->at_path->file] { return os::RemoveSocket(file); };
  (void)LookUp(server->at_path->path, patience, remove);
  return nullptr;
}

}  // namespace

const Exports kPlaceFunctions = {
    {"connect", Entry<Connect, 2>},
    {"finishConnecting", Entry<FinishConnecting, 1>},
    {"connectingState", Entry<ConnectingState, 1>},
    {"openPlace", Entry<OpenPlace, 2>},
    {"openInPlace", Entry<OpenInPlace, 3>},
    {"removeInPlace", Entry<RemoveInPlace, 3>},
    {"changeMode", Entry<ChangeMode, 3>},
    {"isSocketAlive", Entry<IsSocketAlive, 2>},
    {"lockPlace", Entry<LockPlace, 2>},
    {"listen", Entry<Listen, 2>},
    {"listenToStreams", Entry<ListenToStreams, 2>},
    {"listenInPlace", Entry<ListenInPlace, 4>},
    {"listenToStreamsInPlace", Entry<ListenToStreamsInPlace, 4>},
    {"keepPlace", Entry<KeepPlace, 4>},
    {"removeSocket", Entry<RemoveSocket, 2>},
};

}  // namespace dmabuf::js
