#include "os/closer.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <deque>
#include <list>
#include <optional>
#include <utility>

#include "os/file.h"
#include "os/file_kind.h"

namespace dmabuf {
namespace {

// How long the calling thread may wait for the closer, in all, in every second.
constexpr int64_t kMostWaitNanoseconds = 30'000'000;
constexpr int64_t kOneWaitNanoseconds = 20'000'000;
constexpr int64_t kSecond = 1'000'000'000;
constexpr size_t kMostPerDevice = 2;
// glibc takes the thread-local storage of the whole program out of it.
constexpr size_t kStackBytes = 256 << 10;

// Files of tmpfs that are freed within a moment. (The last holder of a memfd frees its pages.)
constexpr uint64_t kFewBlocks = (64 << 20) / 512;

int64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

// The file system of all memfds is mounted once, by the kernel itself.
bool IsOnMemfdDevice(dev_t device) {
  static std::atomic<dev_t> memfd_device{0};
  dev_t known = memfd_device.load(std::memory_order_relaxed);
  if (known == 0) {
    const UniqueFd any(::memfd_create("dmabuf", MFD_CLOEXEC));
    const Result<ForeignStatus> status = StatusWithoutServer(any.get());
    if (!status) return false;
    known = status->file.identity.device;
    memfd_device.store(known, std::memory_order_relaxed);
  }
  return device == known;
}

// /dev/null, /dev/zero and /dev/full, which nothing can wait for.
bool IsVoid(dev_t number) {
  return major(number) == 1 && (minor(number) == 3 || minor(number) == 5 || minor(number) == 7);
}

// Whether the last close(2) certainly does not sleep for long. Of what peers can make, that is dma-bufs,
// sync_files, small memfds and /dev/null. Not pipes, epolls and sockets, where somebody can hold a lock while
// the kernel reads or writes memory of his that nobody provides.
bool ClosesAtOnce(int fd, const ForeignStatus& status) {
  const dev_t device = status.file.identity.device;
  if (status.file.is_character_device) return IsVoid(status.file.device_number);
  if (major(device) != 0) return false;
  // The name alone of a file of the kernel's own.
  if (const Result<bool> path_only = IsPathOnly(fd); status.type == 0 && path_only && *path_only) return true;
  if (IsOnMemfdDevice(device)) return status.blocks <= kFewBlocks;
  const Result<FileDescription> file = DescribeForeignFile(fd);
  return file && file->kind != FileKind::kOther;
}

struct Batch {
  size_t left = 0;
};

struct Task {
  int fd = -1;
  std::optional<FileIdentity> identity;  // none: a look at it has failed
  std::shared_ptr<Sender> sender;
  std::shared_ptr<Batch> batch;            // that somebody waits for
  std::shared_ptr<Discarding> discarding;  // instead of closing
};

// Files that could not be looked at count as of one device.
dev_t DeviceOf(const Task& task) { return task.identity ? task.identity->device : 0; }

class Lock {
 public:
  explicit Lock(pthread_mutex_t* mutex) : mutex_(mutex) { pthread_mutex_lock(mutex_); }
  Lock(const Lock&) = delete;
  Lock(Lock&&) = delete;
  Lock& operator=(const Lock&) = delete;
  Lock& operator=(Lock&&) = delete;
  ~Lock() { pthread_mutex_unlock(mutex_); }

 private:
  pthread_mutex_t* mutex_;
};

class Closer {
 public:
  // Never destroyed: its threads may outlive main().
  static Closer& Get() {
    static auto* closer = new Closer();
    return *closer;
  }

  // Whether the number waits here already. One that is just being closed does not count: the kernel frees it
  // early in close(2), and it may be somebody's again.
  bool Owns(int fd) {
    const Lock lock(&mutex_);
    return std::any_of(waiting_.begin(), waiting_.end(),
                       [fd](const Task& task) { return task.fd == fd && !task.discarding; });
  }

  void Add(std::vector<Task>&& tasks, Wait wait) {
    if (tasks.empty()) return;
    const auto batch = std::make_shared<Batch>();
    const Lock lock(&mutex_);
    for (Task& task : tasks) {
      if (wait == Wait::kAMoment) task.batch = batch;
      if (task.sender) {
        task.sender->waiting++;
        if (task.sender->waiting > kMostWaitingOfOne || waiting_.size() >= kMostWaiting) {
          task.sender->dropped = true;
        }
      }
      waiting_.push_back(std::move(task));
    }
    StartThread();
    if (wait == Wait::kAMoment) {
      batch->left = tasks.size();
      WaitFor(*batch);
    }
  }

  void CloseAfter(const std::shared_ptr<Discarding>& discarding) {
    const Lock lock(&mutex_);
    if (discarding->done) {
      Task task;
      task.fd = discarding->socket;
      const Result<ForeignStatus> status = StatusWithoutServer(task.fd);
      if (status) task.identity = status->file.identity;
      waiting_.push_back(std::move(task));
      StartThread();
    } else {
      discarding->close_after = true;
    }
  }

 private:
  Closer() {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&finished_, &attributes);
    pthread_condattr_destroy(&attributes);
  }

  std::deque<Task>::iterator FindNext() {
    return std::find_if(waiting_.begin(), waiting_.end(), [this](const Task& task) {
      const auto same = [&task](const Task& other) { return DeviceOf(other) == DeviceOf(task); };
      return static_cast<size_t>(std::count_if(running_.begin(), running_.end(), same)) < kMostPerDevice;
    });
  }

  // One thread more, where there is work for it. EAGAIN: whoever comes next tries again.
  void StartThread() {
    if (threads_ >= kMostClosers || FindNext() == waiting_.end()) return;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_t thread;
    if (pthread_create(&thread, &attributes, Run, this) == 0) threads_++;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  static void* Run(void* argument) {
    static_cast<Closer*>(argument)->Work();
    return nullptr;
  }

  void Work() {
    pthread_mutex_lock(&mutex_);
    for (auto next = FindNext(); next != waiting_.end(); next = FindNext()) {
      const auto current = running_.insert(running_.end(), std::move(*next));
      waiting_.erase(next);
      const Task& task = *current;
      if (task.sender) task.sender->waiting--;
      StartThread();  // this one may never come back
      pthread_mutex_unlock(&mutex_);
      Do(task);
      pthread_mutex_lock(&mutex_);
      if (task.discarding) Finish(*task.discarding, task.identity);
      if (task.batch && --task.batch->left == 0) pthread_cond_broadcast(&finished_);
      running_.erase(current);
    }
    threads_--;
    pthread_mutex_unlock(&mutex_);
  }

  static void Do(const Task& task) {
    if (task.discarding) {
      char byte = 0;
      (void)::recv(task.fd, &byte, sizeof byte, MSG_DONTWAIT);
      return;
    }
    // Whoever closed the number although it was no longer his may have made it another file's.
    const Result<ForeignStatus> status = StatusWithoutServer(task.fd);
    if (!status && status.error().number == EBADF) return;
    if (status && task.identity && !(status->file.identity == *task.identity)) return;
    ::close(task.fd);
  }

  void Finish(Discarding& discarding, const std::optional<FileIdentity>& identity) {
    discarding.done = true;
    if (!discarding.close_after) return;
    Task task;
    task.fd = discarding.socket;
    task.identity = identity;
    waiting_.push_back(std::move(task));
  }

  void WaitFor(const Batch& batch) {
    const int64_t start = Now();
    if (start - second_ > kSecond) {
      second_ = start;
      waited_ = 0;
    }
    const int64_t most = std::min(kOneWaitNanoseconds, kMostWaitNanoseconds - waited_);
    if (threads_ == 0 || most <= 0) return;
    const int64_t end = start + most;
    const timespec until{static_cast<time_t>(end / kSecond), static_cast<long>(end % kSecond)};
    while (batch.left > 0) {
      if (pthread_cond_timedwait(&finished_, &mutex_, &until) != 0) break;
    }
    waited_ += Now() - start;
  }

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t finished_;
  std::deque<Task> waiting_;
  std::list<Task> running_;
  size_t threads_ = 0;
  int64_t second_ = 0;  // when it began
  int64_t waited_ = 0;  // in it
};

}  // namespace

Result<void> CloseForeignFiles(const std::vector<ForeignFile>& files, Wait wait) {
  std::vector<Task> tasks;
  bool all_open = true;
  for (const ForeignFile& file : files) {
    const Result<ForeignStatus> status = StatusWithoutServer(file.fd);
    const auto same = [&file](const Task& task) { return task.fd == file.fd; };
    Task task;
    task.fd = file.fd;
    if (status) task.identity = status->file.identity;
    task.sender = file.sender;
    if ((!status && status.error().number == EBADF) || std::any_of(tasks.begin(), tasks.end(), same) ||
        Closer::Get().Owns(file.fd)) {
      all_open = false;
    } else if (status && ClosesAtOnce(file.fd, *status)) {
      ::close(file.fd);
    } else {
      tasks.push_back(std::move(task));
    }
  }
  Closer::Get().Add(std::move(tasks), wait);
  if (!all_open) return SystemError{EBADF, "close"};
  return {};
}

std::shared_ptr<Discarding> DiscardMessage(int socket) {
  auto discarding = std::make_shared<Discarding>();
  discarding->socket = socket;
  std::vector<Task> tasks(1);
  tasks[0].fd = socket;
  const Result<ForeignStatus> status = StatusWithoutServer(socket);
  if (status) tasks[0].identity = status->file.identity;
  tasks[0].discarding = discarding;
  Closer::Get().Add(std::move(tasks), Wait::kNo);
  return discarding;
}

void CloseAfter(const std::shared_ptr<Discarding>& discarding) { Closer::Get().CloseAfter(discarding); }

}  // namespace dmabuf
