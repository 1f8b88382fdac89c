#pragma once

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "os/descriptor_look.h"
#include "os/parse.h"
#include "os/result.h"
#include "os/retry.h"
#include "os/survey.h"
#include "os/unique_fd.h"
#include "os/watched.h"

namespace dmabuf::os {

// The process, thread or descriptor has ended meanwhile.
inline bool IsGone(int error) { return error == ENOENT || error == ESRCH; }
inline Result<void> UnlessGone(const SystemError& error) {
  return IsGone(error.number) ? Result<void>() : error;
}

// How a file's path begins when it is a dma-buf (Linux 5.3). A process with a root folder of its own can
// have a path that begins so, too.
constexpr std::string_view kPrefix = "/dmabuf:";

// The whole number that `text` is, or -1.
inline int ParseId(std::string_view text) {
  const std::optional<uint64_t> id = TakeNumber(&text);
  return id && text.empty() && *id <= INT32_MAX ? static_cast<int>(*id) : -1;
}

// The kernel's struct linux_dirent64 (getdents64(2)).
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};

// Not the error of a call: this thread was left behind, and may use only what it owns itself.
constexpr SystemError kLeftBehind{ETIMEDOUT, nullptr};
inline bool IsLeftBehind(const Result<void>& result) { return !result && result.error().call == nullptr; }

// The parts of ScanProcesses(): the iteration over processes and threads (process_scan.cc), and what one of
// them holds (process_holdings.cc).
class ProcessScanner {
 public:
  ProcessScanner(UniqueFd proc, std::string vague_command)
      : proc_(std::move(proc)),
        vague_command_(std::move(vague_command)),
        entries_(std::make_unique<char[]>(kEntriesSize)) {}

  // Lists all processes to inspect, this one first.
  Result<void> ListAll();
  // Inspects the processes from the next one on, up to `end`. Without a watch it makes no call that may
  // never return.
  Result<void> Run(Watch* watch, size_t end);
  [[nodiscard]] size_t count() const { return pids_.size(); }
  [[nodiscard]] size_t next() const { return next_; }
  // Continues after the process at which a thread was left behind.
  void PassOver();
  // Decides what can only be decided when all processes have been seen.
  Survey Finish();

 private:
  static constexpr size_t kEntriesSize = 32768;
  static constexpr size_t kLinesSize = 65536;
  // Few enough that a slow machine does not mistake them for a call that hangs.
  static constexpr size_t kMostLooks = 64;

  // A mapping, or a path (O_PATH), whose own path looks like a dma-buf's.
  struct Held {
    int pid;
    dev_t device;
    uint64_t inode;
    uint64_t size;  // at least, where it ends
    bool size_is_lower_bound;
    bool is_path;
    std::string name;
  };

  template <typename Visit>
  Result<void> ForEachNumber(int folder, Visit visit);
  Result<void> ScanProcess(Watch* watch, int pid);
  Result<void> ScanOtherThreads(Watch* watch, int pid, int process);
  // Inspects what /proc/<pid> or /proc/<pid>/task/<tid> shows; `has_seen`: it showed anything.
  Result<void> ScanThread(Watch* watch, int pid, int thread, bool* has_seen);
  Result<void> ScanDescriptors(Watch* watch, int pid, int thread, bool* has_seen);
  Result<void> AddDescriptors(Watch* watch, int pid, int thread, std::vector<DescriptorLook> looks);
  Result<void> AddPath(int pid, const struct statx& status);
  Result<void> AddDescriptor(int pid, const DescriptorLook& look);
  Result<void> ScanMappings(Watch* watch, int pid, int thread, bool* has_seen);
  Result<void> ScanLine(Watch* watch, int pid, int thread, const char* line, const char* end);
  Result<void> LookBehind(Watch* watch, int thread, uint64_t start, uint64_t end, Held* mapping);
  void Add(const Held& held);
  bool IsOtherDevice(dev_t device) const;
  // Records why something could not be read; if this process itself lacks resources, this is an error.
  Result<void> Refuse(int pid, const SystemError& error, Survey::Secret what);

  UniqueFd proc_;
  const std::string vague_command_;
  std::vector<int> pids_;
  size_t next_ = 0;
  std::unique_ptr<char[]> entries_;
  // Which part of the present process is being inspected.
  Survey::Secret what_ = Survey::Secret::kDescriptors;
  Survey survey_;
  // What could not be read of the present process.
  std::vector<Survey::Refusal> refusals_;
  // The one file system of all dma-bufs; 0 until the first was seen.
  dev_t device_ = 0;
  std::vector<dev_t> other_devices_;
  // Seen before the device was known.
  std::vector<Held> undecided_;
  std::vector<bool> is_described_;
};

template <typename Visit>
Result<void> ProcessScanner::ForEachNumber(int folder, Visit visit) {
  for (;;) {
    const long length =
        Retry([&] { return ::syscall(SYS_getdents64, folder, entries_.get(), kEntriesSize); });
    if (length < 0) return SystemError{errno, "getdents64"};
    if (length == 0) return {};
    for (long at = 0; at < length;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries_.get() + at);
      at += entry->length;
      const int number = ParseId(entry->name);
      if (number < 0) continue;
      const Result<void> visited = visit(number, entry->name);
      if (!visited) return visited;
    }
  }
}

}  // namespace dmabuf::os
