#include "os/watched.h"

#include <csignal>

#include <atomic>
#include <utility>

namespace dmabuf::os {
namespace {

std::atomic<int> left_count{0};

}  // namespace

void Watch::Begin() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_inside_ = true;
  calls_++;
  clockid_t clock;
  if (!clock_ && pthread_getcpuclockid(pthread_self(), &clock) == 0) clock_ = clock;
}

bool Watch::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_inside_ = false;
  return !is_left_;
}

void Watch::Finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_over_ = true;
  if (is_left_) left_count--;
  changed_.notify_all();
}

int64_t Watch::Spent() const {
  timespec time{};
  if (!clock_ || ::clock_gettime(*clock_, &time) != 0) return 0;
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool Watch::Wait(std::chrono::milliseconds patience) {
  // If the machine was suspended, the clock jumps: this may use up one of many parts, but not all.
  constexpr int kParts = 20;
  constexpr int kBusyParts = 12 * kParts;
  std::unique_lock<std::mutex> lock(mutex_);
  int parts = 0;  // of one call
  int idle = 0;   // of these, the last ones in which it used no processor
  unsigned seen = calls_;
  int64_t spent = 0;
  while (idle < kParts && parts < kBusyParts) {
    if (changed_.wait_for(lock, patience / kParts, [&] { return is_over_; })) return true;
    const int64_t now = Spent();
    const bool is_same = is_inside_ && calls_ == seen;
    parts = is_same ? parts + 1 : 0;
    idle = is_same && now == spent ? idle + 1 : 0;
    seen = calls_;
    spent = now;
  }
  is_left_ = true;
  left_count++;
  return false;
}

class WatchedThread {
 public:
  explicit WatchedThread(std::function<void(Watch*)> work) : work_(std::move(work)) {}

  // False: no thread can be created.
  static bool Start(const std::shared_ptr<WatchedThread>& self);
  bool Wait(std::chrono::milliseconds patience) { return watch_.Wait(patience); }

 private:
  static void* Main(void* data) {
    (void)pthread_setname_np(pthread_self(), "dmabuf-look");
    const std::unique_ptr<std::shared_ptr<WatchedThread>> self(
        static_cast<std::shared_ptr<WatchedThread>*>(data));
    (*self)->work_(&(*self)->watch_);
    (*self)->work_ = nullptr;
    (*self)->watch_.Finish();
    return nullptr;
  }

  Watch watch_;
  std::function<void(Watch*)> work_;
};

bool WatchedThread::Start(const std::shared_ptr<WatchedThread>& self) {
  auto own = std::make_unique<std::shared_ptr<WatchedThread>>(self);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, size_t{256} << 10);
  // Signals are for other threads, which handle them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, Main, own.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) return false;
  (void)own.release();
  return true;
}

Watched RunWatched(std::chrono::milliseconds patience, std::function<void(Watch*)> work, int most) {
  if (left_count >= most) return Watched::kNotStarted;
  const auto thread = std::make_shared<WatchedThread>(std::move(work));
  if (!WatchedThread::Start(thread)) return Watched::kNotStarted;
  return thread->Wait(patience) ? Watched::kEnded : Watched::kLeft;
}

}  // namespace dmabuf::os
