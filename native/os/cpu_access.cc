#include "os/cpu_access.h"

#include <ctime>
#include <memory>
#include <utility>

#include "os/file.h"
#include "os/thread.h"
#include "os/unique_fd.h"

namespace dmabuf::os {
namespace {

// START takes some microseconds if it does not sleep.
constexpr int64_t kLookEveryNanoseconds = 1'000'000;
constexpr int64_t kSecond = 1'000'000'000;

timespec NextLook() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  const int64_t nanoseconds = time.tv_nsec + kLookEveryNanoseconds;
  time.tv_sec += static_cast<time_t>(nanoseconds / kSecond);
  time.tv_nsec = static_cast<long>(nanoseconds % kSecond);
  return time;
}

// START on a separate thread. Shared by that thread and the caller.
class Attempt {
 public:
  Attempt(UniqueFd file, CpuAccess access) : file_(std::move(file)), access_(access) {
    MakeCondition(&over_);
  }
  Attempt(const Attempt&) = delete;
  Attempt(Attempt&&) = delete;
  Attempt& operator=(const Attempt&) = delete;
  Attempt& operator=(Attempt&&) = delete;
  ~Attempt() { pthread_cond_destroy(&over_); }

  static Result<bool> Make(UniqueFd file, CpuAccess access) {
    const auto attempt = std::make_shared<Attempt>(std::move(file), access);
    auto for_thread = std::make_unique<std::shared_ptr<Attempt>>(attempt);
    const Lock lock(&attempt->mutex_);
    const Result<void> started = StartDetached("dmabuf-access", Run, for_thread.get());
    if (!started) return started.error();
    (void)for_thread.release();
    return attempt->Wait();
  }

 private:
  static void* Run(void* argument) {
    const std::unique_ptr<std::shared_ptr<Attempt>> attempt(static_cast<std::shared_ptr<Attempt>*>(argument));
    (*attempt)->Begin();
    return nullptr;
  }

  void Begin() {
    const Result<void> begun = BeginCpuAccess(file_.get(), access_);
    const Lock lock(&mutex_);
    begun_ = begun;
    is_over_ = true;
    pthread_cond_signal(&over_);
    if (is_given_up_ && begun) (void)EndCpuAccess(file_.get(), access_);
  }

  Result<bool> Wait() {
    while (!is_over_) {
      const timespec next = NextLook();
      (void)pthread_cond_timedwait(&over_, &mutex_, &next);
      if (is_over_) break;
      // START sleeps, or the thread has not run yet.
      const Result<bool> ready = IsReady(file_.get(), access_);
      if (ready && *ready) continue;
      is_given_up_ = true;
      return ready;
    }
    file_.Reset();  // the thread, which may take a moment to end, no longer needs it
    if (!begun_) return begun_.error();
    return true;
  }

  UniqueFd file_;
  const CpuAccess access_;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t over_;
  bool is_over_ = false;
  bool is_given_up_ = false;
  Result<void> begun_;
};

}  // namespace

Result<bool> TryBeginCpuAccess(int fd, CpuAccess access, Fences fences) {
  const Result<bool> ready = IsReady(fd, access);
  if (!ready || !*ready) return ready;
  if (fences == Fences::kOfOthers) {
    // The number may be closed before the thread that is left behind has finished.
    Result<UniqueFd> copy = Duplicate(fd);
    if (!copy) return copy.error();
    return Attempt::Make(std::move(*copy), access);
  }
  const Result<void> begun = BeginCpuAccess(fd, access);
  if (!begun) return begun.error();
  return true;
}

}  // namespace dmabuf::os
