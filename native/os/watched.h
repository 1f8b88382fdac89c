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

// Follows a thread through calls that may never return and that only SIGKILL ends: what reads another
// process's memory map waits for locks, which that process may hold for as long as a file system that it uses
// (FUSE, NFS) does not answer. What not even SIGKILL ends is for a process apart (os/apart.h).
class Watch {
 public:
  // Before such a call.
  void Begin();
  // After it. False: it took so long that nobody has waited. Then the thread owns what is its own alone, and
  // must end.
  [[nodiscard]] bool End();

 private:
  friend class WatchedThread;
  // Of the thread, at its end.
  void Finish();
  // Of who waits: until the thread has ended (true), or one call has waited as long as that, or run twelve
  // times as long (false).
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

// A call that may never return, of a thread that is watched; `call` touches nothing but what is the thread's
// own. Nothing: nobody waits any more.
template <typename Call>
auto Within(Watch* watch, Call call) -> std::optional<decltype(call())> {
  watch->Begin();
  auto result = call();
  const int error = errno;
  if (!watch->End()) return std::nullopt;
  errno = error;
  return result;
}

// How long one process may keep a thread waiting.
constexpr std::chrono::milliseconds kPatience(1000);

enum class Watched {
  kEnded,
  kLeft,        // it hangs in a call, which may go on for ever
  kNotStarted,  // too many hang already, or there can be no thread
};

// Runs `work` on a thread of its own and waits for its end, or until one of its calls has waited longer than
// `patience` without using the processor (a busy machine makes calls slow, and only one that hangs does
// nothing): then `work` goes on alone, if ever, and keeps what it owns until then.
//
// Of threads that hang there are at most `most` in this process, whoever started them: they count for the
// limits of the process, so that is one number for all. Some more are for looks at this process itself.
constexpr int kMostLeft = 32;
constexpr int kMostLeftByItself = kMostLeft + 4;
Watched RunWatched(std::chrono::milliseconds patience, std::function<void(Watch*)> work,
                   int most = kMostLeft);

}  // namespace dmabuf::os
