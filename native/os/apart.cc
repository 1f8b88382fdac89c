#include "os/apart.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_set>

#include "os/retry.h"
#include "os/uapi.h"

namespace dmabuf::os {
namespace {

// The helper processes of this process, by their ids. Never destroyed, as one may run for ever.
class Registry {
 public:
  static Registry& All() {
    static auto* const all = new Registry;
    return *all;
  }

  bool Has(int pid) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return pids_.count(pid) != 0;
  }
  void Add(int pid) {
    const std::lock_guard<std::mutex> lock(mutex_);
    pids_.insert(pid);
  }
  void Remove(int pid) {
    const std::lock_guard<std::mutex> lock(mutex_);
    pids_.erase(pid);
  }

 private:
  std::mutex mutex_;
  std::unordered_set<int> pids_;
};

struct Errand {
  int parent;
  int folder;
  const std::function<void(int folder)>* work;
  // It was not done: the process was killed.
  SystemError error{EINTR, "clone"};
};

int Perform(void* data) {
  auto* errand = static_cast<Errand*>(data);
  // Otherwise it could wait for a lock that is never released: this process's other threads may end at any
  // moment.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != errand->parent) return 0;
  Registry::All().Add(::getpid());
  if (errand->folder != kOwnFolder && ::fchdir(errand->folder) < 0) {
    errand->error = {errno, "fchdir"};
    return 0;
  }
  // Linux 5.9: a table of its own, with nothing in it. To close copies of descriptors could require requests
  // to file systems; on older kernels it keeps this process's.
  (void)::syscall(SYS_close_range, 0U, ~0U, kCloseRangeUnshare);
  (*errand->work)(AT_FDCWD);
  errand->error = {0, nullptr};
  return 0;
}

// valgrind does not support such a process, and ends the program that creates one. Checked when the addon is
// loaded: later, other threads may change the environment.
const bool kIsUnderValgrind = [] {
  const char* preloaded = std::getenv("LD_PRELOAD");
  return preloaded != nullptr && std::strstr(preloaded, "/vgpreload_") != nullptr;
}();

}  // namespace

Result<void> RunApart(int folder, const std::function<void(int folder)>& work) {
  alignas(16) std::byte stack[size_t{64} << 10];
  Errand errand{::getpid(), folder, &work};
  // Its end sends no signal: programs may count the signals of their own children.
  const int pid = kIsUnderValgrind
                      ? -1
                      : ::clone(Perform, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FILES, &errand);
  if (pid < 0) {
    work(folder == kOwnFolder ? AT_FDCWD : folder);
    return {};
  }
  (void)Retry([=] { return ::waitpid(pid, nullptr, __WALL); });
  Registry::All().Remove(pid);
  return errand.error.number == 0 ? Result<void>() : errand.error;
}

bool IsApart(int pid) { return Registry::All().Has(pid); }

}  // namespace dmabuf::os
