#include "os/path_lookup.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <deque>
#include <utility>
#include <vector>

#include "os/apart.h"
#include "os/retry.h"
#include "os/watched.h"

namespace dmabuf::os {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr milliseconds kMoment(2);

// Waits for a condition, at most so long.
void WaitFor(pthread_cond_t* condition, pthread_mutex_t* mutex, nanoseconds time) {
  constexpr int64_t kSecond = 1'000'000'000;
  timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  const int64_t end = until.tv_nsec + time.count();
  until.tv_sec += static_cast<time_t>(end / kSecond);
  until.tv_nsec = static_cast<long>(end % kSecond);
  (void)pthread_cond_timedwait(condition, mutex, &until);
}

}  // namespace

// The lookups of this process, in the order of arrival.
class PathLookups {
 public:
  // Never destroyed, as a thread may return at any time.
  static PathLookups& All() {
    static auto* const all = new PathLookups;
    return *all;
  }

  Result<void> Add(const std::shared_ptr<PathLookup>& lookup) {
    const Lock lock(&mutex_);
    if (AreAllKept()) return SystemError{EBUSY, "pthread_create"};
    waiting_.push_back(lookup);
    if (threads_ == kMostLookups || Next() == waiting_.end()) return {};
    const Result<void> started = StartDetached("dmabuf-path", Run, this);
    if (started) {
      threads_++;
    } else {
      Withdraw(lookup.get());
    }
    return started;
  }

  bool Wait(PathLookup* lookup, milliseconds patience) {
    const Lock lock(&mutex_);
    // If the machine was suspended, the clock jumps: this may use up one of many parts, but not all.
    constexpr int kParts = 20;
    for (int part = 0; !lookup->is_over_ && part < kParts; part++) {
      const steady_clock::time_point end = steady_clock::now() + nanoseconds(patience) / kParts;
      for (nanoseconds left = end - steady_clock::now(); !lookup->is_over_ && left.count() > 0;
           left = end - steady_clock::now()) {
        WaitFor(&lookup->over_, &mutex_, left);
      }
    }
    if (!lookup->is_over_) Withdraw(lookup);
    return lookup->is_over_;
  }

  bool WaitAMoment(PathLookup* lookup) {
    const Lock lock(&mutex_);
    if (!lookup->is_over_ && running_.size() + waiting_.size() == 1)
      WaitFor(&lookup->over_, &mutex_, kMoment);
    return lookup->is_over_;
  }

  Result<UniqueFd> Watch(PathLookup* lookup) {
    UniqueFd watch(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!watch.valid()) return SystemError{errno, "eventfd"};
    const Lock lock(&mutex_);
    lookup->watch_ = watch.get();
    if (lookup->is_over_) Tell(*lookup);
    return watch;
  }

  bool IsKeptOut(const PathLookup& lookup) {
    const Lock lock(&mutex_);
    return !lookup.has_begun_ && AreAllKept();
  }

  void GiveUp(PathLookup* lookup) {
    const Lock lock(&mutex_);
    lookup->watch_ = -1;
    Withdraw(lookup);
  }

  bool IsOver(const PathLookup& lookup) {
    const Lock lock(&mutex_);
    return lookup.is_over_;
  }

 private:
  using Queue = std::deque<std::shared_ptr<PathLookup>>;

  [[nodiscard]] size_t CountOf(const std::string& path) const {
    const auto same = [&](const auto& other) { return other->path_ == path; };
    return static_cast<size_t>(std::count_if(running_.begin(), running_.end(), same));
  }

  // The lookup whose turn it is.
  Queue::iterator Next() {
    return std::find_if(waiting_.begin(), waiting_.end(),
                        [&](const auto& lookup) { return CountOf(lookup->path_) < kMostLookupsOfOne; });
  }

  [[nodiscard]] bool AreAllKept() const {
    const auto since = steady_clock::now() - kPatience;
    return running_.size() == kMostLookups &&
           std::all_of(running_.begin(), running_.end(),
                       [&](const auto& lookup) { return lookup->begun_ < since; });
  }

  void Withdraw(const PathLookup* lookup) {
    const auto place = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const auto& other) { return other.get() == lookup; });
    if (place != waiting_.end()) waiting_.erase(place);
  }

  static void Tell(const PathLookup& lookup) {
    const uint64_t one = 1;
    if (lookup.watch_ >= 0) (void)Retry([&] { return ::write(lookup.watch_, &one, sizeof one); });
  }

  static void* Run(void* argument) {
    static_cast<PathLookups*>(argument)->Work();
    return nullptr;
  }

  void Work() {
    pthread_mutex_lock(&mutex_);
    for (;;) {
      const auto next = Next();
      if (next == waiting_.end()) break;
      const std::shared_ptr<PathLookup> lookup = *next;
      waiting_.erase(next);
      running_.push_back(lookup);
      lookup->has_begun_ = true;
      lookup->begun_ = steady_clock::now();
      pthread_mutex_unlock(&mutex_);
      lookup->work_();
      lookup->work_ = nullptr;
      pthread_mutex_lock(&mutex_);
      running_.erase(std::find(running_.begin(), running_.end(), lookup));
      lookup->is_over_ = true;
      Tell(*lookup);
      pthread_cond_signal(&lookup->over_);
    }
    threads_--;
    pthread_mutex_unlock(&mutex_);
  }

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  Queue waiting_;
  std::vector<std::shared_ptr<PathLookup>> running_;
  size_t threads_ = 0;
};

Result<std::shared_ptr<PathLookup>> PathLookup::Begin(std::string path, std::function<void()> work) {
  auto lookup = std::make_shared<PathLookup>(std::move(path), std::move(work));
  const Result<void> added = PathLookups::All().Add(lookup);
  if (!added) return added.error();
  return lookup;
}

bool PathLookup::Wait(milliseconds patience) { return PathLookups::All().Wait(this, patience); }
bool PathLookup::WaitAMoment() { return PathLookups::All().WaitAMoment(this); }
Result<UniqueFd> PathLookup::Watch() { return PathLookups::All().Watch(this); }
bool PathLookup::IsKeptOut() { return PathLookups::All().IsKeptOut(*this); }
void PathLookup::GiveUp() { PathLookups::All().GiveUp(this); }
bool PathLookup::is_over() { return PathLookups::All().IsOver(*this); }

Result<void> LookUpApart(int folder, const std::string& name, int flags) {
  Result<void> found;
  const Result<void> apart = RunApart(folder, [&](int where) {
    const Result<UniqueFd> file = OpenAt(where, name.c_str(), O_PATH | flags);
    const Result<FileStatus> status = file ? StatusOf(file->get()) : file.error();
    if (!status) found = status.error();
  });
  return apart ? found : apart;
}

}  // namespace dmabuf::os
