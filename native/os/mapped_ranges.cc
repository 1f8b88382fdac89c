#include "os/mapped_ranges.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <mutex>
#include <new>

#include "os/mapping_room.h"

namespace dmabuf::os {

std::atomic<uint32_t> lost_ranges{0};

namespace {

// Faults come in any thread, and a signal has one handler in a process: so the table is the process's. Each
// copy of the addon has its own, and its own handler in the chain. The handler reads the table without locks:
// chunks are only ever added.
constexpr size_t kRangesPerChunk = 128;
struct Chunk {
  MappedRange ranges[kRangesPerChunk];
  Chunk* next = nullptr;
};
std::atomic<Chunk*> chunks{nullptr};
std::atomic<size_t> noted{0};
MappedRange* free_ranges = nullptr;  // guarded by `lock`

// For changes of the table and of the handler. The signal handler does not take it.
std::mutex lock;

// The handlers that were installed before ours, each once: the signal handler reads these at any time.
struct Previous {
  struct sigaction action;
  Previous* next;
};
Previous* all_previous = nullptr;  // guarded by `lock`
std::atomic<const Previous*> first_previous{nullptr};
std::atomic<const Previous*> last_previous{nullptr};

// The threads that are passing on a signal at the moment. Two copies of the addon that were each installed
// after the other would otherwise pass it on for ever.
std::atomic<pid_t> passing_on[16];

MappedRange* FindRange(uintptr_t address) {
  for (Chunk* chunk = chunks.load(); chunk != nullptr; chunk = chunk->next) {
    for (MappedRange& range : chunk->ranges) {
      char* start = range.start.load();
      const auto first = reinterpret_cast<uintptr_t>(start);
      if (start == nullptr || address < first || address - first >= range.length.load()) continue;
      if (range.start.load() == start) return &range;  // otherwise the length belonged to another range
    }
  }
  return nullptr;
}

void Call(const struct sigaction& action, int signal, siginfo_t* info, void* context) {
  if ((action.sa_flags & SA_SIGINFO) != 0) return action.sa_sigaction(signal, info, context);
  const bool ignored = action.sa_handler == SIG_IGN;
  if (!ignored && action.sa_handler != SIG_DFL) return action.sa_handler(signal);
  // There is no other handler. A fault cannot be ignored: it occurs again, and ends the process as usual.
  const bool comes_again = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
  if (ignored && !comes_again) return;
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
  if (!comes_again) ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), signal);
}

void PassOn(int signal, siginfo_t* info, void* context) {
  const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
  std::atomic<pid_t>* place = nullptr;
  bool again = false;
  for (std::atomic<pid_t>& thread : passing_on) {
    if (thread.load() == self) again = true;
  }
  for (std::atomic<pid_t>& thread : passing_on) {
    pid_t none = 0;
    if (again || !thread.compare_exchange_strong(none, self)) continue;
    place = &thread;
    break;
  }
  // The handler before our first installation cannot lead back to us.
  const Previous* previous = place == nullptr ? first_previous.load() : last_previous.load();
  Call(previous->action, signal, info, context);
  if (place != nullptr) place->store(0);
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  // Only faults from the kernel have an address.
  const bool fault = info->si_code == BUS_ADRERR || info->si_code == BUS_OBJERR ||
                     info->si_code == BUS_MCEERR_AR || info->si_code == BUS_MCEERR_AO;
  MappedRange* range = fault ? FindRange(reinterpret_cast<uintptr_t>(info->si_addr)) : nullptr;
  if (range != nullptr) {
    range->lost = true;
    lost_ranges++;
    void* start = range->start.load();
    if (!ReplaceByZeros(start, range->length)) range = nullptr;
  }
  if (range == nullptr) PassOn(signal, info, context);
  errno = saved;
}

const Previous* Remember(const struct sigaction& action) {
  for (const Previous* known = all_previous; known != nullptr; known = known->next) {
    if (known->action.sa_handler == action.sa_handler && known->action.sa_flags == action.sa_flags)
      return known;
  }
  all_previous = new Previous{action, all_previous};
  return all_previous;
}

bool IsOurs(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == OnBusError;
}

// Other code may have replaced our handler without passing signals on to it, as process.on('SIGBUS') does:
// then ours is installed again. Guarded by `lock`.
void KeepHandler() {
  struct sigaction current = {};
  ::sigaction(SIGBUS, nullptr, &current);
  if (IsOurs(current)) return;
  const Previous* previous = Remember(current);
  if (first_previous.load() == nullptr) first_previous = previous;
  last_previous = previous;
  struct sigaction ours = {};
  ours.sa_sigaction = OnBusError;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigaction(SIGBUS, &ours, nullptr);
}

}  // namespace

MappedRange* NoteMappedRange(void* start, size_t length) {
  const std::lock_guard<std::mutex> guard(lock);
  KeepHandler();
  if (free_ranges == nullptr) {
    auto* chunk = new (std::nothrow) Chunk;
    if (chunk == nullptr) return nullptr;
    for (MappedRange& range : chunk->ranges) {
      range.next_free = free_ranges;
      free_ranges = &range;
    }
    chunk->next = chunks.load();
    chunks = chunk;
  }
  MappedRange* range = free_ranges;
  free_ranges = range->next_free;
  range->lost.store(false, std::memory_order_relaxed);
  range->length.store(length, std::memory_order_release);
  range->start.store(static_cast<char*>(start), std::memory_order_release);
  noted.fetch_add(1, std::memory_order_relaxed);
  return range;
}

void ForgetMappedRange(MappedRange* range) {
  const std::lock_guard<std::mutex> guard(lock);
  range->start.store(nullptr, std::memory_order_release);
  range->next_free = free_ranges;
  free_ranges = range;
  noted.fetch_sub(1, std::memory_order_relaxed);
}

size_t MappedRangeCount() { return noted.load(std::memory_order_relaxed); }

bool ReplaceByZeros(void* start, size_t length) {
  // Writable whatever the mapping was: a late write must not fault either.
  const auto replace = [start, length](int kind) {
    return ::mmap(start, length, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE | kind, -1,
                  0) != MAP_FAILED;
  };
  if (replace(MAP_PRIVATE)) return true;
  // At the limit of mappings. A range that the kernel has joined to its neighbour needs more than one.
  if (errno == ENOMEM && ReleaseSpareMappings() && replace(MAP_PRIVATE)) return true;
  // Shared memory is not counted as data (RLIMIT_DATA).
  return errno == ENOMEM && replace(MAP_SHARED);
}

}  // namespace dmabuf::os
