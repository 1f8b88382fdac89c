#pragma once

#include <pthread.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace dmabuf::os {

// Follows a thread through calls that may never return and that only SIGKILL ends: to read another process's
// memory map, the kernel waits for locks, which that process may hold while a file system that it uses
// (FUSE, NFS) does not answer. Waits that not even SIGKILL ends belong in a separate process (os/apart.h).
class Watch {
 public:
  // Before such a call.
  void Begin();
  // After it. False: it took so long that the caller has stopped waiting. Then the thread may use only what
  // it owns itself, and must end.
  [[nodiscard]] bool End();

 private:
  friend class WatchedThread;
  // Called by the thread, at its end.
  void Finish();
  // Called by the waiting thread: returns when the thread has ended (true), or when one call has waited that
  // long, or has run twelve times as long (false).
  bool Wait(std::chrono::milliseconds patience);
  // The processor time of the thread, 0 before its first call.
  [[nodiscard]] int64_t Spent() const;

  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned calls_ = 0;
  std::optional<clockid_t> clock_;  // of the thread
  bool is_inside_ = false;
  bool is_left_ = false;
  bool is_over_ = false;
};

// A call of a watched thread that may never return; `call` uses only what the thread owns itself. Returns
// nothing if the caller has stopped waiting.
template <typename Call>
auto Within(Watch* watch, Call call) -> std::optional<decltype(call())> {
  watch->Begin();
  auto result = call();
  const int error = errno;
  if (!watch->End()) return std::nullopt;
  errno = error;
  return result;
}

// How long one process may block a thread.
constexpr std::chrono::milliseconds kPatience(1000);

enum class Watched {
  kEnded,
  kLeft,        // it hangs in a call, which may last for ever
  kNotStarted,  // too many hang already, or there can be no thread
};

// Runs `work` on a separate thread and waits for its end, or until one of its calls has waited longer than
// `patience` without using the processor (calls are slow on a busy machine, but only a call that hangs does
// nothing). In that case `work` continues alone, if at all, and keeps what it owns.
//
// At most `most` threads hang in this process: they count towards the limits of the process, so there is one
// number for all. Some more are reserved for inspections of this process itself.
constexpr int kMostLeft = 32;
constexpr int kMostLeftByItself = kMostLeft + 4;
Watched RunWatched(std::chrono::milliseconds patience, std::function<void(Watch*)> work,
                   int most = kMostLeft);

}  // namespace dmabuf::os
