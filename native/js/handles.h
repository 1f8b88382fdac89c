#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "js/napi_setup.h"
#include "os/closer.h"
#include "os/cpu_access.h"
#include "os/file.h"
#include "os/mapping.h"
#include "os/path_lookup.h"
#include "os/socket_file.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// The type tag of a handle: a slot given for one kind of object is never taken for another.
enum class HandleKind : uint8_t {
  kFree,
  kHeap,
  kDmaBuf,
  kSyncFile,
  kChannel,
  kServer,
  kMemfd,
  kMessage,  // a descriptor of any kind that waits to be sent
  kLock,     // a folder, locked for as long as it is open
  kPlace,    // a folder or a file in it, by O_PATH
  kLookup,   // an eventfd, readable when a path has been looked up
  kStream,
  kStreamServer,
};

// A mapping and the ArrayBuffer that shows it, if any. Shared by the handle and the ArrayBuffer's finalizer,
// which may run in any order, the finalizer even after the environment's data is gone.
struct SharedMapping {
  explicit SharedMapping(os::Mapping mapping) : mapping(std::move(mapping)) {}

  std::optional<os::Mapping> mapping;  // empty once unmapped
  bool exposed = false;                // an ArrayBuffer shows it; only its finalizer may unmap
};

// What is known about an end of a connection.
struct Connection {
  Connection() = default;
  Connection(const Connection&) = delete;
  Connection(Connection&&) = delete;
  Connection& operator=(const Connection&) = delete;
  Connection& operator=(Connection&&) = delete;
  ~Connection();

  bool alone = false;   // of a stream: no other process holds this end
  bool marked = false;  // MarkMessages() is on
  bool ended = false;   // the peer is gone, and everything was received
  std::shared_ptr<os::Sender> sender = std::make_shared<os::Sender>();
  std::shared_ptr<os::Discarding> discarding;  // a message that is being dropped
  int64_t discarding_since = 0;                // milliseconds
  size_t delivered = 0;                        // how many of its descriptors could have been received
  std::deque<UniqueFd> arrived;                // of a stream: those that JavaScript has not taken yet
};

// What a path led to.
struct AtPath {
  std::string path;                        // as the user gave it
  std::shared_ptr<os::PathLookup> lookup;  // for kLookup, with its future result
  std::shared_ptr<std::optional<Result<UniqueFd>>> made;
  std::optional<os::SocketFile> file;   // of a server
  HandleKind kind = HandleKind::kFree;  // of kLookup: of the socket that it makes
};

// The common state of handles of one environment whose descriptors are copies of one another.
struct Copies {
  size_t open = 1;      // handles
  bool shared = false;  // whether any of them is shared
  bool lent = false;
  std::shared_ptr<os::Sender> sender;
};

// An open file that belongs to one JavaScript object.
struct Handle {
  uint32_t slot = 0;  // the last one that it was given
  HandleKind kind = HandleKind::kFree;
  // Whether identity and size are known. A new allocation is inspected when its descriptor's number or its
  // bytes are first needed, since the inspection costs a twelfth of the allocation.
  bool identified = false;
  // Whether JavaScript knows the descriptor's number, and so may have closed it.
  bool lent = false;
  // Whether a former mapping had been lost; see IsLost().
  bool lost = false;
  // Whether other processes hold or held the file; see Share(). IsShared() also considers its copies.
  bool shared = false;
  std::shared_ptr<os::Sender> sender;  // who sent it, or was sent it first
  std::shared_ptr<Copies> copies;      // none if no copy was made here
  UniqueFd fd;
  os::FileIdentity identity;
  uint64_t size = 0;                     // bytes, of a dma-buf
  std::shared_ptr<SharedMapping> whole;  // of the whole buffer, from the first CPU access until close
  std::unordered_map<uint64_t, std::shared_ptr<SharedMapping>> mappings;  // made by map(), by id
  std::unique_ptr<Connection> connection;                                 // of a channel or a stream
  std::unique_ptr<AtPath> at_path;                                        // of a server, kPlace and kLookup
};

// Every open handle of one environment, so that a terminated worker leaves no descriptor open. Used only on
// the environment's own thread.
//
// A slot is the number of a handle: its place in the table in the lower bits, and in the upper ones the
// generation of that place. They count up together, past the places that are taken, so that a slot is reused
// only after all others: code that still has the slot of a closed handle finds no handle, and never its
// successor. There are never more open handles than descriptors, so the numbers suffice; 0 is not used, and
// no number is so large that V8 would make an object of it.
class Handles {
 public:
  uint32_t Add(HandleKind kind, UniqueFd fd, const os::FileStatus& status);
  // A dma-buf that the kernel has just made, and that was not inspected yet.
  uint32_t AddNewBuffer(UniqueFd fd);
  // nullptr when the slot has no open handle of that kind. Valid until the next Add().
  Handle* Find(uint32_t slot, HandleKind kind) {
    Handle& handle = At(slot);
    return handle.slot == slot && handle.kind == kind ? &handle : nullptr;
  }
  // Of any kind.
  Handle* Find(uint32_t slot) {
    Handle& handle = At(slot);
    return handle.slot == slot && handle.kind != HandleKind::kFree ? &handle : nullptr;
  }
  // All that are open, in the order in which they were made.
  [[nodiscard]] std::vector<const Handle*> List() const;
  // Records that one has a copy of the other's descriptor.
  void Join(uint32_t original, uint32_t copy);
  // The handle of the open dma-buf with this descriptor number, if any.
  [[nodiscard]] std::optional<uint32_t> FindBuffer(int fd, const os::FileIdentity& identity) const;
  // Releases the mappings and closes the descriptor, unless its number now refers to another file. When the
  // kernel refuses to release a mapping, the handle stays open with the remaining ones.
  Result<void> Close(uint32_t slot);
  // Closes the descriptor, but leaves mappings that an ArrayBuffer shows to that ArrayBuffer.
  void Abandon(uint32_t slot);
  // Releases the mappings and gives the descriptor away; Close() says when this fails.
  Result<int> Release(uint32_t slot);
  // Releases one mapping; when the kernel refuses, nothing has changed.
  Result<void> Unmap(uint32_t slot, uint64_t mapping);
  // Forgets a mapping whose ArrayBuffer is gone.
  void Forget(uint32_t slot, uint64_t mapping, bool lost);
  uint64_t NextMappingId() { return ++last_mapping_id_; }

  Handles() : handles_(mask_ + 1) {}
  Handles(const Handles&) = delete;
  Handles(Handles&&) = delete;
  Handles& operator=(const Handles&) = delete;
  Handles& operator=(Handles&&) = delete;
  ~Handles();

 private:
  static constexpr uint32_t kMostSlots = INT32_MAX;

  Handle& At(uint32_t slot) { return handles_[slot & mask_]; }
  Handle& Take(HandleKind kind, UniqueFd fd);
  void Clear(Handle& handle);
  void Grow();

  uint32_t mask_ = 15;  // the size of the table, a power of two, less 1
  std::vector<Handle> handles_;
  uint32_t open_ = 0;  // handles; at most half of the table, so that a free place is near
  uint32_t last_slot_ = 0;
  uint64_t last_mapping_id_ = 0;
};

// Slots that JavaScript got and has not made an object of yet. If that fails (at the end of the stack, or in
// a program's replacement of a built-in function), no other code knows the descriptor: the next yield closes
// it.
class Unclaimed {
 public:
  // `entries` is memory of kRoom numbers that JavaScript sees. It claims the slot at a position by writing 0
  // there.
  Unclaimed(Handles& handles, double* entries) : handles_(handles), entries_(entries) {}

  static constexpr size_t kRoom = 256;

  // Closes the slots that were yielded before and never claimed.
  void Reclaim() {
    for (; count_ > 0; count_--) {
      if (entries_[count_ - 1] != 0) Drop(count_ - 1);
    }
    taken_ = false;
  }
  // The places are 0, 1, ... after Reclaim().
  void AddSlot(uint32_t slot) { entries_[count_++] = slot; }
  void AddFd(int fd) { entries_[count_++] = -static_cast<double>(fd) - 1; }
  // The yielded slot has a descriptor that the caller keeps if it cannot be taken over.
  void MarkTaken() { taken_ = true; }
  // The slot is closed or given away.
  void Forget(uint32_t slot) {
    for (size_t index = 0; index < count_; index++) {
      if (entries_[index] == slot) entries_[index] = 0;
    }
  }

 private:
  void Drop(size_t index);

  Handles& handles_;
  double* entries_;
  size_t count_ = 0;
  bool taken_ = false;
};
// Other processes hold the file, too, or did: it was received, sent, imported or taken over. From now on
// only the closer closes it. `peer`: the other end of the connection, if known.
void Share(Handle& handle, const std::shared_ptr<os::Sender>& peer);

// JavaScript gets the descriptor's number: from now on other processes may hold the file.
void Lend(Handle& handle);

inline bool IsShared(const Handle& handle) {
  return handle.shared || (handle.copies && handle.copies->shared);
}

// Who may add fences to the buffer.
inline os::Fences FencesOf(const Handle& handle) {
  const bool lent = handle.lent || (handle.copies && handle.copies->lent);
  return lent || IsShared(handle) ? os::Fences::kOfOthers : os::Fences::kOurs;
}

// Whether the descriptor still refers to the same file as before. Inspects a new buffer for the first time.
Result<bool> CheckIdentity(Handle& handle);

// Whether an access to a mapping of the handle was answered with SIGBUS: the buffer is lost, as far as this
// object knows.
inline bool IsLost(const Handle& handle) {
  if (os::lost_ranges.load(std::memory_order_relaxed) == 0) return false;
  const auto lost = [](const SharedMapping& shared) { return shared.mapping && shared.mapping->lost(); };
  if (handle.lost || (handle.whole && lost(*handle.whole))) return true;
  return std::any_of(handle.mappings.begin(), handle.mappings.end(),
                     [lost](const auto& entry) { return lost(*entry.second); });
}

// Replaces the pages of the ArrayBuffer that shows the mapping: code that still uses that memory reads zeros
// from then on. The ArrayBuffer is not detached. Detaching drops its memory at once, while jobs on the
// thread pool (zlib, fs, crypto) hold a bare pointer to it, and Node's zlib does not survive an input that
// shrinks. Unmaps at once if no ArrayBuffer ever showed the mapping. When the kernel refuses, nothing has
// changed.
Result<void> ReleaseMapping(SharedMapping& mapping);

}  // namespace dmabuf::js
