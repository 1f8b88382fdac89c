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
#include <ctime>
#include <optional>
#include <unordered_set>
#include <utility>

#include "os/closing_queue.h"
#include "os/file.h"
#include "os/thread.h"

namespace dmabuf::os {
namespace {

// How long the calling thread may wait for the closer, in all, in every second.
constexpr int64_t kMostWaitNanoseconds = 15'000'000;
constexpr int64_t kOneWaitNanoseconds = 10'000'000;
// It waits for at most so many files, since closing them takes long enough.
constexpr size_t kMostWaitedFor = 8;
constexpr int64_t kSecond = 1'000'000'000;
// How many descriptors in queues it may inspect.
constexpr size_t kMostLooksAtQueues = 1024;

// The last close(2) of a memfd frees its pages: so many bytes take only a moment.
constexpr uint64_t kMostFreedAtOnce = 4 << 20;
// How many threads stay when there is nothing to do, and how long. The first of them checks for more work
// every millisecond, the second once, in case the first is blocked.
constexpr size_t kMostIdle = 2;
constexpr int kMostLooks = 10;
constexpr int64_t kLookNanoseconds = 1'000'000;

int64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

timespec TimeOf(int64_t nanoseconds) {
  return {static_cast<time_t>(nanoseconds / kSecond), static_cast<long>(nanoseconds % kSecond)};
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

// /dev/null, /dev/zero and /dev/full, which never block.
bool IsVoid(dev_t number) {
  return major(number) == 1 && (minor(number) == 3 || minor(number) == 5 || minor(number) == 7);
}

// Whether so many bytes are left; if so, subtracts them.
bool Spend(uint64_t bytes, uint64_t* left) {
  if (bytes > *left) return false;
  *left -= bytes;
  return true;
}

// Whether the last close(2) certainly does not take long, if it may free so many bytes `left`. Among files
// that peers can make, this is true for small memfds and /dev/null. It is not true for pipes, epolls and
// sockets, whose lock a process can hold while the kernel waits for that process's memory; nor for files
// that an epoll can watch, since the last close(2) takes the epoll's lock: dma-bufs and sync_files.
bool ClosesAtOnce(int fd, const ForeignStatus& status, uint64_t* left) {
  const dev_t device = status.file.identity.device;
  if (status.file.is_character_device) return IsVoid(status.file.device_number);
  if (major(device) != 0) return false;
  // Only the name of a file of the kernel.
  if (const Result<bool> path_only = IsPathOnly(fd); status.type == 0 && path_only && *path_only) return true;
  return IsOnMemfdDevice(device) && Spend(status.blocks * 512, left);
}

// All sockets belong to one device and all pipes to another, which no process serves: if closing one of them
// blocks, its sender is the reason.
dev_t DeviceOf(const ForeignStatus& status, bool has_sender) {
  const bool served = status.type != 0 && status.type != S_IFSOCK && status.type != S_IFIFO;
  return served || !has_sender ? status.file.identity.device : 0;
}

ClosingTask TaskFor(int fd, const Result<ForeignStatus>& status, const std::shared_ptr<Sender>& sender) {
  ClosingTask task;
  task.fd = fd;
  task.sender = sender;
  if (status) {
    task.identity = status->file.identity;
    task.device = DeviceOf(*status, sender != nullptr);
  }
  return task;
}

class Closer {
 public:
  // Never destroyed: its threads may outlive main().
  static Closer& Get() {
    static auto* closer = new Closer();
    return *closer;
  }

  // Whether the number already waits here. A number that is just being closed does not count: the kernel
  // frees it early in close(2), and it may already be reused.
  bool Owns(int fd) {
    const Lock lock(&mutex_);
    return numbers_.count(fd) > 0;
  }

  void Add(ClosingTask* tasks, size_t count, Wait wait) {
    if (count == 0) return;
    const Lock lock(&mutex_);
    const int64_t time = wait == Wait::kAMoment && count <= kMostWaitedFor ? TimeToWait() : 0;
    const auto batch = time > 0 ? std::make_shared<Batch>() : nullptr;
    if (batch) batch->left = count;
    bool may_run = false;
    for (size_t index = 0; index < count; index++) {
      tasks[index].batch = batch;
      may_run = Queue(std::move(tasks[index])) || may_run;
    }
    // Earlier ones continue to wait.
    if (may_run) StartThread();
    if (batch) WaitFor(*batch, time);
  }

  bool StopDiscarding(const std::shared_ptr<Discarding>& discarding) {
    const Lock lock(&mutex_);
    return discarding->done || queue_.Withdraw(discarding);
  }

  void CloseAfter(const std::shared_ptr<Discarding>& discarding) {
    const Lock lock(&mutex_);
    if (!discarding->done) {
      discarding->close_after = true;
      return;
    }
    Queue(TaskFor(discarding->socket, StatusWithoutServer(discarding->socket), discarding->sender));
    StartThread();
  }

  // Returns whether there is still work for a thread that cannot be created.
  bool StartMissing() {
    const Lock lock(&mutex_);
    StartThread();
    return closers_missing;
  }

  bool MayLookAt(size_t count) {
    const Lock lock(&mutex_);
    BeginSecond(Now());
    if (looked_ >= kMostLooksAtQueues) return false;
    looked_ += count;
    return true;
  }

 private:
  Closer() {
    MakeCondition(&finished_);
    MakeCondition(&wanted_);
  }

  // Returns whether the added task may run now.
  bool Queue(ClosingTask&& task) {
    if (task.known && !task.discarding) numbers_.insert(task.fd);
    return queue_.Add(std::move(task));
  }

  // Starts one more thread if there is work for it and no idle thread will check for it.
  void StartThread() {
    if (idle_ > 0 || threads_ >= kMostClosers || !queue_.HasNext()) {
      closers_missing = false;
      return;
    }
    closers_missing = !StartDetached("dmabuf-close", Run, this);
    if (!closers_missing) threads_++;
  }

  static void* Run(void* argument) {
    static_cast<Closer*>(argument)->Work();
    return nullptr;
  }

  void Work() {
    pthread_mutex_lock(&mutex_);
    for (;;) {
      const std::optional<ClosingTask> current = queue_.Take();
      if (!current && IdleUntilMore()) continue;
      if (!current) break;
      StartThread();  // this one may never come back
      pthread_mutex_unlock(&mutex_);
      Do(*current);
      pthread_mutex_lock(&mutex_);
      queue_.Finish(*current);
      if (current->sender) current->sender->closed++;
      if (current->discarding) Finish(*current);
      if (current->batch && --current->batch->left == 0) pthread_cond_broadcast(&finished_);
    }
    threads_--;
    pthread_mutex_unlock(&mutex_);
  }

  // Waits until there may be work; false when it is time to end.
  bool IdleUntilMore() {
    if (idle_ >= kMostIdle) return false;
    const int most = idle_ == 0 ? kMostLooks : 1;
    const int64_t pause = kLookNanoseconds * (kMostLooks / most);
    idle_++;
    bool found = false;
    for (int looks = 0; !found && looks < most; looks++) {
      const timespec until = TimeOf(Now() + pause);
      pthread_cond_timedwait(&wanted_, &mutex_, &until);
      found = queue_.HasNext();
    }
    idle_--;
    return found;
  }

  void Do(const ClosingTask& task) {
    if (task.discarding) {
      char byte = 0;
      (void)::recv(task.fd, &byte, sizeof byte, MSG_DONTWAIT);
      return;
    }
    const bool is_open = IsOpenStill(task);
    if (task.known) {
      const Lock lock(&mutex_);
      numbers_.erase(task.fd);
    }
    if (is_open) ::close(task.fd);
  }

  // Code that closed the number without owning it may have reused it for another file.
  static bool IsOpenStill(const ClosingTask& task) {
    const Result<ForeignStatus> status = StatusWithoutServer(task.fd);
    if (!status) return status.error().number != EBADF;
    return !task.identity || status->file.identity == *task.identity;
  }

  void Finish(const ClosingTask& task) {
    task.discarding->done = true;
    if (!task.discarding->close_after) return;
    ClosingTask next;
    next.fd = task.fd;
    next.identity = task.identity;
    next.device = task.device;
    next.sender = task.sender;
    Queue(std::move(next));
  }

  void BeginSecond(int64_t now) {
    if (now - second_ <= kSecond) return;
    second_ = now;
    waited_ = 0;
    looked_ = 0;
  }

  // How long the caller may wait now; it does not wait if that is used up.
  int64_t TimeToWait() {
    BeginSecond(Now());
    return std::min(kOneWaitNanoseconds, kMostWaitNanoseconds - waited_);
  }

  void WaitFor(const Batch& batch, int64_t most) {
    if (threads_ == 0) return;
    const int64_t start = Now();
    const timespec until = TimeOf(start + most);
    pthread_cond_signal(&wanted_);
    while (batch.left > 0) {
      if (pthread_cond_timedwait(&finished_, &mutex_, &until) != 0) break;
    }
    waited_ += Now() - start;
  }

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t finished_;
  pthread_cond_t wanted_;  // a caller waits for a task that an idle thread would find a little later
  ClosingQueue queue_;
  std::unordered_set<int> numbers_;  // of those that wait
  size_t threads_ = 0;
  size_t idle_ = 0;     // of them
  int64_t second_ = 0;  // when it began
  int64_t waited_ = 0;  // in it
  size_t looked_ = 0;   // in it
};

}  // namespace

std::atomic<bool> closers_missing{false};

bool StartClosers() { return Closer::Get().StartMissing(); }

bool MayLookAt(size_t count) { return Closer::Get().MayLookAt(count); }

Reception ReceptionOf(Sender& sender) {
  if (sender.dropped) return Reception::kNever;
  if (!sender.crowded) {
    sender.since = 0;
    return Reception::kNow;
  }
  const int64_t now = Now();
  const uint32_t closed = sender.closed;
  if (sender.since == 0 || closed != sender.closed_then) {
    sender.since = now;
    sender.closed_then = closed;
  }
  if (now - sender.since <= kMostStandstill) return Reception::kLater;
  sender.dropped = true;
  return Reception::kNever;
}

void CloseSharedFile(UniqueFd file, const std::optional<FileIdentity>& identity, bool known,
                     const std::shared_ptr<Sender>& sender) {
  ClosingTask task;
  task.fd = file.release();
  task.known = known;
  task.identity = identity;
  if (identity) task.device = sender ? 0 : identity->device;
  task.sender = sender;
  Closer::Get().Add(&task, 1, Wait::kAMoment);
}

Result<void> CloseForeignFiles(const std::vector<ForeignFile>& files, Wait wait) {
  std::vector<ClosingTask> tasks;
  std::unordered_set<int> numbers;
  bool all_open = true;
  uint64_t left = kMostFreedAtOnce;
  for (const ForeignFile& file : files) {
    const bool twice = files.size() > 1 && !numbers.insert(file.fd).second;
    const Result<ForeignStatus> status = file.status ? *file.status : StatusWithoutServer(file.fd);
    if ((!status && status.error().number == EBADF) || twice || Closer::Get().Owns(file.fd)) {
      all_open = false;
    } else if (status && ClosesAtOnce(file.fd, *status, &left)) {
      ::close(file.fd);
    } else {
      tasks.push_back(TaskFor(file.fd, status, file.sender));
    }
  }
  Closer::Get().Add(tasks.data(), tasks.size(), wait);
  if (!all_open) return SystemError{EBADF, "close"};
  return {};
}

std::shared_ptr<Discarding> DiscardMessage(int socket, const std::shared_ptr<Sender>& sender) {
  auto discarding = std::make_shared<Discarding>();
  discarding->socket = socket;
  discarding->sender = sender;
  ClosingTask task = TaskFor(socket, StatusWithoutServer(socket), sender);
  task.discarding = discarding;
  Closer::Get().Add(&task, 1, Wait::kNo);
  return discarding;
}

bool StopDiscarding(const std::shared_ptr<Discarding>& discarding) {
  return Closer::Get().StopDiscarding(discarding);
}

void CloseAfter(const std::shared_ptr<Discarding>& discarding) { Closer::Get().CloseAfter(discarding); }

}  // namespace dmabuf::os
