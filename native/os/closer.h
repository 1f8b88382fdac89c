#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "os/result.h"

namespace dmabuf {

// Who sent descriptors: the other end of a channel.
struct Sender {
  // It has sent more than can be closed, and nothing more is received from it.
  std::atomic<bool> dropped{false};
  size_t waiting = 0;  // descriptors that wait to be closed; under the closer's lock
};

// A message that a thread of the closer takes out of a socket and throws away, with its descriptors.
struct Discarding {
  std::atomic<bool> done{false};
  int socket = -1;
  bool close_after = false;  // under the closer's lock
};

// close(2) of a stranger's file may sleep for as long as somebody likes: a file system in user space that
// does not answer (FUSE, CUSE, NFS), a TCP socket that lingers, a pipe or a Unix socket whose lock or queue
// depends on such a file. So a few threads of this process close them, and no other ever does.
//
// One for the whole process, since descriptors and threads are the process's own. At most kMostClosers
// threads, of which no device's files occupy more than two: who serves a file system that never answers takes
// two threads for ever, and the others go on. They end when nothing is left to do. What is more than they can
// do stays open and waits (also when no thread can be made at all), until one has time.
constexpr size_t kMostClosers = 8;
// Beyond these, whoever brought the descriptors is dropped: of one sender two full messages, of all together
// about what processes that may open 1024 files can spare.
constexpr size_t kMostWaitingOfOne = 512;
constexpr size_t kMostWaiting = 768;

enum class Wait : bool { kNo, kAMoment };

// A descriptor, and who sent it where that is known.
struct ForeignFile {
  int fd;
  std::shared_ptr<Sender> sender;
};

// Closes strangers' descriptors: at once what certainly does not sleep, the others by the closer's threads.
// With kAMoment it waits for these, for some milliseconds and not always: who waits too often waits no more.
// EBADF, after all the others were closed, for one that is not open or waits already.
Result<void> CloseForeignFiles(const std::vector<ForeignFile>& files, Wait wait = Wait::kNo);

// Has one of the closer's threads throw away the next message of a socket.
std::shared_ptr<Discarding> DiscardMessage(int socket);
// Closes the socket that a message is being thrown away of, when that is over.
void CloseAfter(const std::shared_ptr<Discarding>& discarding);

}  // namespace dmabuf
