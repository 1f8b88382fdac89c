#pragma once

#include <pthread.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "os/file.h"
#include "os/result.h"
#include "os/thread.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// Work for which the kernel looks up a path. This blocks while a file system on the way does not answer
// (FUSE, NFS), and a user who may place a symbolic link there can lead it to a file system of their own. So
// a thread does it, and the caller can give it up: the thread then keeps what it owns until the file system
// has answered.
//
// One set of threads for the process: at most kMostLookups, and two of these for one path, so that repeated
// attempts on one path leave threads for the others. Further lookups wait for their turn.
class PathLookup {
 public:
  // `path`: the path as the user gave it, which identifies lookups that would wait for the same file system.
  // `work` owns what it needs. EBUSY when all threads have been blocked for kPatience; EAGAIN of
  // pthread_create.
  static Result<std::shared_ptr<PathLookup>> Begin(std::string path, std::function<void()> work);

  PathLookup(std::string path, std::function<void()> work) : path_(std::move(path)), work_(std::move(work)) {
    MakeCondition(&over_);
  }
  PathLookup(const PathLookup&) = delete;
  PathLookup(PathLookup&&) = delete;
  PathLookup& operator=(const PathLookup&) = delete;
  PathLookup& operator=(PathLookup&&) = delete;
  ~PathLookup() { pthread_cond_destroy(&over_); }

  // Waits for the end; if it takes longer, gives up the lookup and returns false.
  bool Wait(std::chrono::milliseconds patience);
  // The same for a moment, if there is no other lookup, and without giving it up.
  bool WaitAMoment();
  // A descriptor that is readable when the lookup is done.
  Result<UniqueFd> Watch();
  // Whether it still waits for a thread, while all are blocked.
  bool IsKeptOut();
  // The result is no longer needed, and the descriptor of Watch() no longer used.
  void GiveUp();
  [[nodiscard]] bool is_over();

 private:
  friend class PathLookups;

  const std::string path_;
  std::function<void()> work_;
  // All under the lock of all lookups.
  pthread_cond_t over_;
  std::chrono::steady_clock::time_point begun_;
  bool has_begun_ = false;
  bool is_over_ = false;
  int watch_ = -1;
};

constexpr size_t kMostLookups = 16;
constexpr size_t kMostLookupsOfOne = 2;

// Makes the kernel look up a name, and what it leads to, in a separate process (os/apart.h): a file system
// that never answers blocks that process, and this one can still end. Later calls, which only this process
// can make, resolve the name themselves. `folder`: kOwnFolder, or a descriptor.
Result<void> LookUpApart(int folder, const std::string& name, int flags);

}  // namespace dmabuf::os
