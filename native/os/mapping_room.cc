#include "os/mapping_room.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string_view>

#include "os/mapping.h"
#include "os/parse.h"
#include "os/retry.h"
#include "os/unique_fd.h"

namespace dmabuf::os {
namespace {

// The state belongs to the process, as the limit does.

// So many mappings, in one range of pages whose protection alternates: with equal protection they would be
// one mapping.
constexpr size_t kSpares = 17;
std::atomic<void*> spares{nullptr};

// The limit is read, with three system calls, each time that there are so many more mappings than ever
// before.
constexpr size_t kLookEvery = 32;
// Reserved for V8, the C library and other addons; of a small limit, an eighth.
constexpr int64_t kLeftToOthers = 4096;

std::atomic<size_t> next_look{0};   // how many of ours exist when the limit is read next
std::atomic<size_t> next_count{0};  // and when all mappings are counted next
std::atomic<int64_t> known_limit{-1};

int64_t LeftToOthers(int64_t limit) { return std::min(kLeftToOthers, limit / 8); }

UniqueFd OpenProc(const char* path) { return UniqueFd(::open(path, O_RDONLY | O_CLOEXEC)); }

ssize_t ReadSome(const UniqueFd& file, char* text, size_t capacity) {
  return Retry([&] { return ::read(file.get(), text, capacity); });
}

// The first number in a file of /proc.
int64_t NumberIn(const char* path) {
  const UniqueFd file = OpenProc(path);
  if (!file.valid()) return -1;
  char bytes[64];
  const ssize_t count = ReadSome(file, bytes, sizeof bytes);
  if (count <= 0) return -1;
  std::string_view text(bytes, static_cast<size_t>(count));
  return static_cast<int64_t>(TakeNumber(&text).value_or(0));
}

int64_t LimitOnMappings() { return NumberIn("/proc/sys/vm/max_map_count"); }

// One line each; names have no line ends there.
int64_t CountMappings() {
  const UniqueFd file = OpenProc("/proc/self/maps");
  if (!file.valid()) return -1;
  char text[16384];
  int64_t lines = 0;
  for (;;) {
    const ssize_t count = ReadSome(file, text, sizeof text);
    if (count < 0) return -1;
    if (count == 0) return lines;
    lines += std::count(text, text + count, '\n');
  }
}

bool KeepSpareMappings() {
  const size_t page = PageSize();
  void* made = ::mmap(nullptr, kSpares * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return false;
  for (size_t index = 1; index < kSpares; index += 2) {
    if (::mprotect(static_cast<char*>(made) + index * page, page, PROT_READ) == 0) continue;
    ::munmap(made, kSpares * page);
    return false;
  }
  void* none = nullptr;
  if (!spares.compare_exchange_strong(none, made)) ::munmap(made, kSpares * page);  // another thread did
  return true;
}

bool HasRoom(size_t ours) {
  const int64_t limit = LimitOnMappings();
  if (limit == known_limit && ours < next_count) {
    next_look = std::min<size_t>(ours + kLookEvery, next_count);
    return true;
  }
  const int64_t all = CountMappings();
  if (limit < 0 || all < 0) {  // no /proc here: the kernel's own refusal has to suffice
    next_look = ours + kLeftToOthers;
    return true;
  }
  const int64_t room = limit - LeftToOthers(limit) - all;
  if (room <= 0) return false;
  // Other code makes mappings meanwhile.
  next_count = ours + std::max<size_t>(1, static_cast<size_t>(room) / 2);
  known_limit = limit;
  next_look = std::min<size_t>(ours + kLookEvery, next_count);
  return true;
}

}  // namespace

Result<void> CheckMappingRoom(size_t ours) {
  const bool room = ours < next_look.load(std::memory_order_relaxed) || HasRoom(ours);
  if (room && (spares.load(std::memory_order_relaxed) != nullptr || KeepSpareMappings())) return {};
  return SystemError{ENOMEM, "mmap"};
}

bool ReleaseSpareMappings() {
  void* kept = spares.exchange(nullptr);
  return kept != nullptr && ::munmap(kept, kSpares * PageSize()) == 0;
}

MappingLimits LimitsOfMappings() {
  MappingLimits limits;
  limits.mappings = CountMappings();
  limits.most_mappings = LimitOnMappings();
  if (limits.most_mappings >= 0) limits.kept_free = LeftToOthers(limits.most_mappings);
  const int64_t pages = NumberIn("/proc/self/statm");
  if (pages >= 0) limits.address_space = pages * static_cast<int64_t>(PageSize());
  rlimit space{};
  if (::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    limits.most_address_space = static_cast<int64_t>(space.rlim_cur);
  }
  return limits;
}

}  // namespace dmabuf::os
