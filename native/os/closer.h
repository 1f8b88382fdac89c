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

// Who sent descriptors, or was sent some: the other end of a channel.
struct Sender {
  // It has sent more than can be closed, and nothing more is received from it.
  std::atomic<bool> dropped{false};
  // More of its descriptors wait than may: nothing is received from it until there are fewer.
  std::atomic<bool> crowded{false};
  std::atomic<uid_t> user{0};       // whose process it is
  std::atomic<uint32_t> closed{0};  // how many of them were closed
  size_t waiting = 0;               // how many wait to be closed; under the closer's lock
  // When `closed` was last seen to change while it was crowded; the receiving thread's own.
  uint32_t closed_then = 0;
  int64_t since = 0;  // nanoseconds of CLOCK_MONOTONIC; 0: it was not crowded
};

// Whether something may be received from it now. Drops it when nothing of too much could be closed for a
// while.
enum class Reception : uint8_t { kNow, kLater, kNever };
Reception ReceptionOf(Sender& sender);

// A message that a thread of the closer takes out of a socket and throws away, with its descriptors.
struct Discarding {
  std::atomic<bool> done{false};
  int socket = -1;
  std::shared_ptr<Sender> sender;
  bool close_after = false;  // under the closer's lock
};

// close(2) of a file that other processes hold or held may sleep for as long as one of them likes: a file
// system in user space that does not answer (FUSE, CUSE, NFS), a TCP socket that lingers, a pipe or a Unix
// socket whose lock or queue depends on such a file, and, for the last of those who close it, an epoll
// instance that watches the file and whose lock somebody holds (which goes for dma-bufs and sync_files, too).
// So a few threads of this process close them, and no other ever does.
//
// One for the whole process, since descriptors and threads are the process's own. A thread may be lost for
// ever to who serves a file system that never answers, so each has a share: of at most kMostClosers threads
// two for files of one device, two for one sender, all but one for the peers of one user, and the last two
// only for senders who have none. Two threads stay for some milliseconds when nothing is left to do, and look
// for more on their own: to wake them, or to make new ones, costs more than to close most files. What is more
// than they can do stays open and waits, until one has time.
constexpr size_t kMostClosers = 8;
constexpr size_t kMostPerDevice = 2;
constexpr size_t kMostPerSender = 2;
constexpr size_t kMostPerUser = kMostClosers - 1;
constexpr size_t kForEverybody = kMostClosers - 2;
// From a sender with more that waits nothing is received, and it is dropped when nothing of his was closed
// for kMostStandstill. While more than kMostWaiting wait in all (which is about what processes that may open
// 1024 files can spare), that is who has more than one full message.
constexpr size_t kMostWaitingOfOne = 512;
constexpr size_t kMostWaiting = 768;
constexpr size_t kMostWaitingBeyond = 253;
constexpr int64_t kMostStandstill = 2'000'000'000;  // nanoseconds

enum class Wait : bool { kNo, kAMoment };

// A descriptor, and who sent it where that is known.
struct ForeignFile {
  int fd;
  std::shared_ptr<Sender> sender;
  std::optional<Result<ForeignStatus>> status = std::nullopt;  // a look at it that has been taken
};

// Closes descriptors that other processes own: at once what certainly does not sleep, the others by the
// closer's threads. With kAMoment it waits for these, for some milliseconds and not always: who waits too
// often waits no more. EBADF, after all the others were closed, for one that is not open or waits already.
Result<void> CloseForeignFiles(const std::vector<ForeignFile>& files, Wait wait = Wait::kNo);

// Has one of the closer's threads close a dma-buf or a sync_file that other processes hold or held, and waits
// for it as with kAMoment. `identity`: what it was taken for, where it was looked at; another file by now is
// left alone. `known`: others were told the number. `sender`: who is to blame when it takes long.
void CloseSharedFile(UniqueFd file, const std::optional<FileIdentity>& identity, bool known,
                     const std::shared_ptr<Sender>& sender);

// No thread could be made for what waits (EAGAIN). Whoever sees this calls StartClosers() a little later, and
// again as long as that returns true.
extern std::atomic<bool> closers_missing;
bool StartClosers();

// Whether the calling thread may go on to look at descriptors in somebody's queue, and counts so many. It may
// look at some in every second, so that no queue holds it up.
bool MayLookAt(size_t count);

// Has one of the closer's threads throw away the next message of a socket, which its sender's files may keep
// waiting.
std::shared_ptr<Discarding> DiscardMessage(int socket, const std::shared_ptr<Sender>& sender);
// Leaves the message where it is, since the socket becomes somebody else's; false where a thread has it
// already.
bool StopDiscarding(const std::shared_ptr<Discarding>& discarding);
// Closes the socket that a message is being thrown away of, when that is over.
void CloseAfter(const std::shared_ptr<Discarding>& discarding);

}  // namespace dmabuf::os
