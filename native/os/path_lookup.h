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

// Work for which the kernel looks a path up. That waits for as long as a file system on the way does not
// answer (FUSE, NFS), and whoever may put a symbolic link there can lead it to one that he serves. So a
// thread does it, and whoever wants it done can give it up: the thread then keeps what it owns, until the
// file system has answered.
//
// One set of threads for the process: at most kMostLookups, and of these two for one path, so that whoever
// tries one again and again leaves the others threads. What is more waits for its turn.
class PathLookup {
 public:
  // `path`: what the user gave, by which lookups that would wait for the same are known. `work` owns what it
  // needs. EBUSY while all threads have been kept waiting for kPatience; EAGAIN, of pthread_create.
  static Result<std::shared_ptr<PathLookup>> Begin(std::string path, std::function<void()> work);

  PathLookup(std::string path, std::function<void()> work) : path_(std::move(path)), work_(std::move(work)) {
    MakeCondition(&over_);
  }
  PathLookup(const PathLookup&) = delete;
  PathLookup(PathLookup&&) = delete;
  PathLookup& operator=(const PathLookup&) = delete;
  PathLookup& operator=(PathLookup&&) = delete;
  ~PathLookup() { pthread_cond_destroy(&over_); }

  // Waits for the end; false, and it is given up, when that has not come for so long.
  bool Wait(std::chrono::milliseconds patience);
  // The same for a moment, if no other lookup is on its way, and without giving it up.
  bool WaitAMoment();
  // A descriptor that is readable when it is over.
  Result<UniqueFd> Watch();
  // Whether it still waits for a thread, while all are kept waiting.
  bool IsKeptOut();
  // Nobody wants it any more, nor looks at what Watch() has returned.
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

// Has the kernel look a name up, and what it leads to, in a process apart (os/apart.h), which a file system
// that never answers keeps without keeping this one from ending. What comes after it, and can only be done by
// this process, finds out by itself where the name leads. `folder`: kOwnFolder, or a descriptor.
Result<void> LookUpApart(int folder, const std::string& name, int flags);

}  // namespace dmabuf::os
