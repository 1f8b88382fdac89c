#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "os/file_kind.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// The sender or receiver of descriptors: the other end of a channel.
struct Sender {
  // It has sent more than can be closed, and nothing more is received from it.
  std::atomic<bool> dropped{false};
  // Too many of its descriptors wait: nothing is received from it until there are fewer.
  std::atomic<bool> crowded{false};
  std::atomic<uid_t> user{0};       // whose process it is
  std::atomic<uint32_t> closed{0};  // how many of them were closed
  size_t waiting = 0;               // how many wait to be closed; under the closer's lock
  // When `closed` was last seen to change while it was crowded; the receiving thread's own.
  uint32_t closed_then = 0;
  int64_t since = 0;  // nanoseconds of CLOCK_MONOTONIC; 0: it was not crowded
};

// Whether messages may be received from it now. Drops it when too many of its descriptors wait and none
// could be closed for a while.
enum class Reception : uint8_t { kNow, kLater, kNever };
Reception ReceptionOf(Sender& sender);

// A message that a thread of the closer removes from a socket and drops, with its descriptors.
struct Discarding {
  std::atomic<bool> done{false};
  int socket = -1;
  std::shared_ptr<Sender> sender;
  bool close_after = false;  // under the closer's lock
};

// Another process can make close(2) of a file that it holds or held sleep for ever: by a file system in user
// space that does not answer (FUSE, CUSE, NFS), a TCP socket that lingers, a pipe or a Unix socket whose
// lock or queue depends on such a file, and, in the last close(2) of the file, by an epoll instance that
// watches it and whose lock is held (this also applies to dma-bufs and sync_files). So only a few threads of
// this process close such files.
//
// One for the whole process, since descriptors and threads are the process's own. A file system that never
// answers may occupy a thread for ever, so there are limits: of at most kMostClosers threads, two for files
// of one device, two for one sender, all but one for the peers of one user, and the last two only for
// senders that occupy none. Two threads stay for some milliseconds when they have nothing to do, and check
// for new work themselves: to wake them, or to create new ones, costs more than to close most files. Further
// descriptors stay open and wait until a thread is free.
constexpr size_t kMostClosers = 8;
constexpr size_t kMostPerDevice = 2;
constexpr size_t kMostPerSender = 2;
constexpr size_t kMostPerUser = kMostClosers - 1;
constexpr size_t kForEverybody = kMostClosers - 2;
// Nothing is received from a sender with more waiting descriptors, and it is dropped when none of them was
// closed for kMostStandstill. While more than kMostWaiting wait in all (about as many as a process that may
// open 1024 files can spare), this applies to senders with more than one full message.
constexpr size_t kMostWaitingOfOne = 512;
constexpr size_t kMostWaiting = 768;
constexpr size_t kMostWaitingBeyond = 253;
constexpr int64_t kMostStandstill = 2'000'000'000;  // nanoseconds

enum class Wait : bool { kNo, kAMoment };

// A descriptor, and its sender if known.
struct ForeignFile {
  int fd;
  std::shared_ptr<Sender> sender;
  std::optional<Result<ForeignStatus>> status =
      std::nullopt;  // the result of an inspection, if there was one
};

// Closes descriptors that other processes hold: at once if this certainly does not sleep, the others by the
// closer's threads. With kAMoment it waits for these for some milliseconds, unless the caller has waited too
// often. EBADF, after all the others were closed, for one that is not open or already waits.
Result<void> CloseForeignFiles(const std::vector<ForeignFile>& files, Wait wait = Wait::kNo);

// Makes one of the closer's threads close a dma-buf or a sync_file that other processes hold or held, and
// waits for it as with kAMoment. `identity`: the file, if it was inspected; if the number refers to another
// file now, it is left alone. `known`: other code knows the number. `sender`: the sender that is held
// responsible when closing takes long.
void CloseSharedFile(UniqueFd file, const std::optional<FileIdentity>& identity, bool known,
                     const std::shared_ptr<Sender>& sender);

// No thread could be created for waiting descriptors (EAGAIN). The caller then calls StartClosers() a little
// later, and again as long as that returns true.
extern std::atomic<bool> closers_missing;
bool StartClosers();

// Whether the calling thread may inspect so many further descriptors in a peer's queue, which are then
// counted. It may inspect only some in every second, so that no queue delays it.
bool MayLookAt(size_t count);

// Makes one of the closer's threads drop the next message of a socket, which may block because of its
// sender's files.
std::shared_ptr<Discarding> DiscardMessage(int socket, const std::shared_ptr<Sender>& sender);
// Leaves the message where it is, since the socket gets another owner; false if a thread has already begun.
bool StopDiscarding(const std::shared_ptr<Discarding>& discarding);
// Closes the socket of which a message is being dropped, when that is done.
void CloseAfter(const std::shared_ptr<Discarding>& discarding);

}  // namespace dmabuf::os
