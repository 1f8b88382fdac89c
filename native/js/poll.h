#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "js/loop_watch.h"
#include "js/napi_setup.h"
#include "js/waker.h"
#include "os/ready_set.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// Waits of one environment for descriptors to become ready. A pending wait keeps the event loop alive. The
// event loop watches, or a thread with a set of its own. Used only on the environment's thread.
class Polls {
 public:
  explicit Polls(napi_env env) : env_(env) {}
  Polls(const Polls&) = delete;
  Polls(Polls&&) = delete;
  Polls& operator=(const Polls&) = delete;
  Polls& operator=(Polls&&) = delete;
  ~Polls();

  // Makes a thread wait instead of the event loop, from the first wait on: in runtimes other than Node.js,
  // the event loop does not poll.
  void UseThread() { use_thread_ = true; }
  // Calls `done(errno)` once when `event`, POLLIN or POLLOUT, is true for the file: with 0, or a negative
  // errno. If `kept`, calls it in every turn of the event loop in which it is true, until Cancel() or a
  // negative errno. All waits with one `owner` are for one file, and share a copy of its descriptor: it may
  // be closed meanwhile, once they have been cancelled. Returns the wait's number, for Cancel().
  Result<uint32_t> Start(uint32_t owner, int fd, short event, napi_value done, bool kept);
  // Ends a wait without calling back. Does nothing if the wait has ended.
  void Cancel(uint32_t id);

 private:
  struct Watch {
    LoopWatch* on_loop;  // nullptr: the set has it
    UniqueFd copy;       // for the set; none if the process had no descriptor left
    int fd;
    uint64_t key;  // owner and event
    std::vector<uint32_t> waits;
  };
  struct Wait {
    uint32_t watch;
    napi_ref done;
    bool kept;
  };

  static void OnReady(void* data);
  static void OnLoopReady(void* data, uint32_t watch, int error);
  static void OnEnded(void* data);
  Result<void> PrepareThread();
  Result<uint32_t> WatchFor(uint32_t owner, int fd, short event);
  Result<void> AddToSet(uint32_t id, int fd, short event, Watch* watch);
  void Settle(const os::ReadySet::Event& event);
  void Settle(uint32_t id, int error);
  void End(std::unordered_map<uint32_t, Wait>::iterator entry);
  void RestIfIdle();

  napi_env env_;
  bool use_thread_ = false;
  bool ending_ = false;
  bool settling_ = false;  // a callback may wait again immediately
  bool fired_ = false;     // the waker has called, and waits until it is resumed
  std::optional<os::ReadySet> set_;
  Waker* waker_ = nullptr;
  std::unordered_map<uint32_t, Watch> watches_;
  std::unordered_map<uint64_t, uint32_t> watch_by_key_;
  std::unordered_map<uint32_t, Wait> waits_;
  uint32_t last_id_ = 0;  // of watches and waits
};

}  // namespace dmabuf::js
