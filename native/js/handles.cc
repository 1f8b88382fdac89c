#include "js/handles.h"

#include <cerrno>
#include <utility>

#include "os/dma_buf.h"
#include "os/entrusted.h"
#include "os/file_kind.h"
#include "os/stream_socket.h"
#include "os/sync_file.h"
#include "os/unix_socket.h"

namespace dmabuf::js {
namespace {

// Decides when a check has failed. Only a closed number is surely not ours. For others, only the kernel's
// own memory is queried, because another process's file system may be the reason of the failure.
bool IsAnother(const Handle& handle, const SystemError& error) {
  if (error.number == EBADF) return true;
  if (!handle.identified) return false;
  const Result<os::ForeignStatus> status = os::StatusWithoutServer(handle.fd.get());
  return status && !(status->file.identity == handle.identity);
}

void CloseChannel(Handle& handle) {
  const Connection& connection = *handle.connection;
  if (handle.kind == HandleKind::kStream) {
    const bool alone = connection.alone && !handle.lent;
    os::CloseStream(std::move(handle.fd), alone, connection.ended, connection.sender);
    return;
  }
  if (connection.discarding) {
    (void)handle.fd.release();
    os::CloseAfter(connection.discarding);
    return;
  }
  const bool alone = !handle.lent && connection.marked;
  os::CloseConnection(std::move(handle.fd), {connection.marked, alone, connection.ended}, connection.sender);
}

// Whether copies of its descriptor stay open here. Then this is not the last close(2) of the file, and only
// the last one may block.
bool LeaveCopies(Handle& handle) {
  const auto copies = std::move(handle.copies);
  if (!copies) return false;
  handle.shared = handle.shared || copies->shared;
  if (!handle.sender) handle.sender = copies->sender;
  return --copies->open > 0;
}

// Closes the file if the number is still ours. Other code may have closed the number and reused it for
// another file, which is left alone.
void CloseOwned(Handle& handle) {
  if (handle.kind == HandleKind::kPlace || handle.kind == HandleKind::kLookup) {
    if (handle.at_path->lookup) handle.at_path->lookup->GiveUp();
    handle.fd.Reset();  // for O_PATH, no file system is informed
    return;
  }
  if (handle.kind == HandleKind::kMessage || handle.kind == HandleKind::kLock) {
    // No other code knows its number.
    (void)os::CloseForeignFiles({{handle.fd.release(), handle.sender}}, os::Wait::kAMoment);
    return;
  }
  const bool is_copied = LeaveCopies(handle);
  const auto identity = handle.identified ? std::make_optional(handle.identity) : std::nullopt;
  if (handle.shared && !is_copied && identity && handle.kind == HandleKind::kDmaBuf) {
    os::CloseSharedFile(std::move(handle.fd), identity, handle.lent, handle.sender);
    return;
  }
  // For a buffer whose number is not known to other code, the cheaper check suffices.
  const bool told = handle.kind != HandleKind::kDmaBuf || handle.lent;
  const Result<bool> ours = told ? CheckIdentity(handle) : os::IsDmaBuf(handle.fd.get());
  if (ours ? !*ours : IsAnother(handle, ours.error())) {
    (void)handle.fd.release();
  } else if (handle.kind == HandleKind::kServer || handle.kind == HandleKind::kStreamServer) {
    os::CloseListener(std::move(handle.fd), !handle.lent);
  } else if (handle.connection) {
    CloseChannel(handle);
  } else if (handle.shared && !is_copied) {
    os::CloseSharedFile(std::move(handle.fd), identity, handle.lent, handle.sender);
  } else {
    handle.fd.Reset();
  }
}

// Releases a mapping, and keeps what it has shown about the buffer.
Result<void> LetGo(Handle& handle, SharedMapping& mapping) {
  const bool lost = IsLost(handle);
  const Result<void> released = ReleaseMapping(mapping);
  if (released) handle.lost = lost;
  return released;
}

// Releases all mappings, or those before the first one that the kernel refuses to release. The mapping of
// the whole buffer is the last: while it exists, CPU access still works.
Result<void> LetGoOfAll(Handle& handle) {
  while (!handle.mappings.empty()) {
    const auto first = handle.mappings.begin();
    const Result<void> released = LetGo(handle, *first->second);
    if (!released) return released;
    handle.mappings.erase(first);
  }
  if (!handle.whole) return {};
  const Result<void> released = LetGo(handle, *handle.whole);
  if (released) handle.whole.reset();
  return released;
}

}  // namespace

Connection::~Connection() {
  if (arrived.empty()) return;
  if (!os::MayLookAt(arrived.size())) {
    // Many peers may have sent many descriptors: the closer inspects these.
    for (UniqueFd& fd : arrived) os::CloseSharedFile(std::move(fd), std::nullopt, false, sender);
    return;
  }
  std::vector<os::ForeignFile> files;
  for (UniqueFd& fd : arrived) files.push_back({fd.release(), sender});
  (void)os::CloseForeignFiles(files, os::Wait::kAMoment);
}

void Handles::Grow() {
  mask_ = 2 * mask_ + 1;
  std::vector<Handle> grown(size_t{mask_} + 1);
  for (Handle& handle : handles_) {
    if (handle.kind != HandleKind::kFree) grown[handle.slot & mask_] = std::move(handle);
  }
  handles_ = std::move(grown);
}

Handle& Handles::Take(HandleKind kind, UniqueFd fd) {
  if (++open_ > handles_.size() / 2) Grow();
  do {
    last_slot_ = last_slot_ < kMostSlots ? last_slot_ + 1 : 1;
  } while (At(last_slot_).kind != HandleKind::kFree);
  Handle& handle = At(last_slot_);
  handle.slot = last_slot_;
  handle.kind = kind;
  handle.lent = false;
  handle.lost = false;
  handle.shared = false;
  handle.fd = std::move(fd);
  return handle;
}

uint32_t Handles::Add(HandleKind kind, UniqueFd fd, const os::FileStatus& status) {
  Handle& handle = Take(kind, std::move(fd));
  handle.identified = true;
  handle.identity = status.identity;
  handle.size = status.size;
  return handle.slot;
}

void Handles::Join(uint32_t original, uint32_t copy) {
  Handle& known = At(original);
  if (!known.copies)
    known.copies = std::make_shared<Copies>(Copies{1, known.shared, known.lent, known.sender});
  known.copies->open++;
  At(copy).copies = known.copies;
}

std::optional<uint32_t> Handles::FindBuffer(int fd, const os::FileIdentity& identity) const {
  const auto found = std::find_if(handles_.begin(), handles_.end(), [&](const Handle& handle) {
    return handle.fd.get() == fd && handle.kind == HandleKind::kDmaBuf && handle.identified &&
           handle.identity == identity;
  });
  if (found == handles_.end()) return std::nullopt;
  return found->slot;
}

std::vector<const Handle*> Handles::List() const {
  std::vector<const Handle*> open;
  for (const Handle& handle : handles_) {
    if (handle.kind != HandleKind::kFree) open.push_back(&handle);
  }
  std::sort(open.begin(), open.end(),
            [](const Handle* one, const Handle* other) { return one->slot < other->slot; });
  return open;
}

uint32_t Handles::AddNewBuffer(UniqueFd fd) {
  Handle& handle = Take(HandleKind::kDmaBuf, std::move(fd));
  handle.identified = false;
  return handle.slot;
}

void Unclaimed::Drop(size_t index) {
  const double entry = entries_[index];
  entries_[index] = 0;
  if (entry < 0) {
    const auto fd = static_cast<int>(-entry - 1);
    (void)os::CloseForeignFiles({{fd, os::Redeem(fd, os::StatusWithoutServer(fd))}});
    return;
  }
  const auto slot = static_cast<uint32_t>(entry);
  if (handles_.Find(slot) == nullptr) return;
  if (taken_) {
    (void)handles_.Release(slot);
  } else {
    (void)handles_.Close(slot);
  }
}

void Share(Handle& handle, const std::shared_ptr<os::Sender>& peer) {
  handle.shared = true;
  if (!handle.sender) handle.sender = peer;
  if (!handle.copies) return;
  handle.copies->shared = true;
  if (!handle.copies->sender) handle.copies->sender = peer;
}

void Lend(Handle& handle) {
  handle.lent = true;
  if (handle.copies) handle.copies->lent = true;
  if (!handle.connection || !handle.connection->marked) return;
  handle.connection->marked = false;
  (void)os::MarkMessages(handle.fd.get(), false);
}

Result<bool> CheckIdentity(Handle& handle) {
  if (!handle.identified) {
    const Result<bool> is_dma_buf = os::IsDmaBuf(handle.fd.get());
    if (!is_dma_buf || !*is_dma_buf) return is_dma_buf;
  }
  const Result<os::FileStatus> status = os::StatusOf(handle.fd.get());
  if (!status) return status.error();
  if (handle.identified) {
    if (!(status->identity == handle.identity)) return false;
    // All anonymous inodes are the same: eventfds, epolls and sync_files differ only in their answers.
    if (handle.kind == HandleKind::kSyncFile) return os::IsSyncFile(handle.fd.get());
    return true;
  }
  handle.identified = true;
  handle.identity = status->identity;
  handle.size = status->size;
  return true;
}

Result<void> Handles::Close(uint32_t slot) {
  Handle& handle = At(slot);
  const Result<void> let_go = LetGoOfAll(handle);
  if (!let_go) return let_go.error();
  CloseOwned(handle);
  Clear(handle);
  return {};
}

void Handles::Abandon(uint32_t slot) {
  Handle& handle = At(slot);
  // A mapping that was never exposed is unmapped before, since the last release of a shared file may block.
  handle.whole.reset();
  handle.mappings.clear();
  CloseOwned(handle);
  Clear(handle);
}

Result<int> Handles::Release(uint32_t slot) {
  Handle& handle = At(slot);
  const Connection* connection = handle.connection.get();
  if (connection != nullptr && connection->discarding && !os::StopDiscarding(connection->discarding))
    return SystemError{EBUSY, "recv"};
  const Result<void> let_go = LetGoOfAll(handle);
  if (!let_go) return let_go.error();
  Lend(handle);
  (void)LeaveCopies(handle);
  const int fd = handle.fd.release();
  Clear(handle);
  return fd;
}

void Handles::Clear(Handle& handle) {
  handle.sender.reset();
  handle.copies.reset();
  handle.connection.reset();
  handle.at_path.reset();
  handle.kind = HandleKind::kFree;
  open_--;
}

void Handles::Forget(uint32_t slot, uint64_t mapping, bool lost) {
  Handle* handle = Find(slot);
  if (handle != nullptr && handle->mappings.erase(mapping) > 0 && lost) handle->lost = true;
}

Handles::~Handles() {
  // The environment ends: ArrayBuffers that are left unmap in their own finalizers.
  for (Handle& handle : handles_) {
    if (handle.kind != HandleKind::kFree) CloseOwned(handle);
  }
}

Result<void> Handles::Unmap(uint32_t slot, uint64_t mapping) {
  Handle& handle = At(slot);
  const auto entry = handle.mappings.find(mapping);
  if (entry == handle.mappings.end()) return {};
  const Result<void> released = LetGo(handle, *entry->second);
  if (released) handle.mappings.erase(entry);
  return released;
}

Result<void> ReleaseMapping(SharedMapping& mapping) {
  if (!mapping.mapping) return {};
  if (mapping.exposed) return mapping.mapping->Retire();
  mapping.mapping.reset();
  return {};
}

}  // namespace dmabuf::js
