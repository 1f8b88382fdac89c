#include "os/process_scan.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "os/apart.h"
#include "os/descriptor_look.h"
#include "os/fdinfo.h"
#include "os/file.h"
#include "os/hung_processes.h"
#include "os/parse.h"
#include "os/process_command.h"
#include "os/retry.h"
#include "os/unique_fd.h"
#include "os/watched.h"

namespace dmabuf::os {
namespace {

// Then nothing that this process sees is to be trusted.
bool IsOwnTrouble(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }
// The process, thread or descriptor has ended meanwhile.
bool IsGone(int error) { return error == ENOENT || error == ESRCH; }
Result<void> UnlessGone(const SystemError& error) { return IsGone(error.number) ? Result<void>() : error; }

// How a file's path begins when it is a dma-buf (Linux 5.3). Whoever has a root folder of his own can have a
// path that begins so, too.
constexpr std::string_view kPrefix = "/dmabuf:";

// "name" or "folder/name" as openat(2) takes it.
struct Path {
  char text[48];

  Path(const char* folder, int number) { std::snprintf(text, sizeof text, "%s%d", folder, number); }
};

// The whole number that `text` is, or -1.
int ParseId(std::string_view text) {
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

// Not of a call: this thread was left behind, and nothing but its own is its any more.
constexpr SystemError kLeftBehind{ETIMEDOUT, nullptr};
bool IsLeftBehind(const Result<void>& result) { return !result && result.error().call == nullptr; }

class Scanner {
 public:
  Scanner(UniqueFd proc, std::string vague_command)
      : proc_(std::move(proc)),
        vague_command_(std::move(vague_command)),
        entries_(std::make_unique<char[]>(kEntriesSize)) {}

  // Has it look at all processes, and at this one first.
  Result<void> ListAll();
  // Looks at the processes from the next one on, `end` of all. Without a watch it asks nothing that may never
  // be answered.
  Result<void> Run(Watch* watch, size_t end);
  [[nodiscard]] size_t count() const { return pids_.size(); }
  [[nodiscard]] size_t next() const { return next_; }
  // Goes on behind the process at which a thread was left.
  void PassOver();
  // What can only be decided when all has been seen.
  Survey Finish();

 private:
  static constexpr size_t kEntriesSize = 32768;
  static constexpr size_t kLinesSize = 65536;
  // Few enough for a slow machine not to take them for one that hangs.
  static constexpr size_t kMostLooks = 64;

  // A mapping, or a path (O_PATH), whose own path looks like a dma-buf's.
  struct Held {
    int pid;
    dev_t device;
    uint64_t inode;
    uint64_t size;  // at the least, where it ends
    bool size_is_lower_bound;
    bool is_path;
    std::string name;
  };

  template <typename Visit>
  Result<void> ForEachNumber(int folder, Visit visit);
  Result<void> ScanProcess(Watch* watch, int pid);
  Result<void> ScanOtherThreads(Watch* watch, int pid, int process);
  // Looks at what /proc/<pid> or /proc/<pid>/task/<tid> shows; `has_seen`: there was anything.
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
  // Notes why something could not be read; what fails for want of this process's own means is an error.
  Result<void> Refuse(int pid, const SystemError& error, Survey::Secret what);

  UniqueFd proc_;
  const std::string vague_command_;
  std::vector<int> pids_;
  size_t next_ = 0;
  std::unique_ptr<char[]> entries_;
  // What of the process at hand is looked at.
  Survey::Secret what_ = Survey::Secret::kDescriptors;
  Survey survey_;
  // What could not be read of the process at hand.
  std::vector<Survey::Refusal> refusals_;
  // The one file system of all dma-bufs; 0 until the first was seen.
  dev_t device_ = 0;
  std::vector<dev_t> other_devices_;
  // Seen before the device was known.
  std::vector<Held> undecided_;
  std::vector<bool> is_described_;
};

template <typename Visit>
Result<void> Scanner::ForEachNumber(int folder, Visit visit) {
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

Result<void> Scanner::ListAll() {
  pids_.push_back(::getpid());
  return ForEachNumber(proc_.get(), [&](int pid, const char*) -> Result<void> {
    if (pid != pids_.front()) pids_.push_back(pid);
    return {};
  });
}

Result<void> Scanner::Run(Watch* watch, size_t end) {
  for (; next_ < end; next_++) {
    const Result<void> scanned = ScanProcess(watch, pids_[next_]);
    if (!scanned) return scanned;
  }
  return {};
}

void Scanner::PassOver() {
  const int pid = pids_[next_++];
  const Result<UniqueFd> process = OpenAt(proc_.get(), Path("", pid).text, O_PATH | O_DIRECTORY);
  AddHung(pid, what_, process ? UserOf(process->get()) : 0);
  survey_.refusals.insert(survey_.refusals.end(), refusals_.begin(), refusals_.end());
  // Its mappings come last.
  if (what_ == Survey::Secret::kDescriptors) survey_.refusals.push_back({pid, ETIMEDOUT, what_});
  survey_.refusals.push_back({pid, ETIMEDOUT, Survey::Secret::kMappings});
  if (survey_.processes.empty() || survey_.processes.back().pid != pid) return;
  if (process) survey_.processes.back().command = CommandOf(process->get(), vague_command_);
}

Result<void> Scanner::Refuse(int pid, const SystemError& error, Survey::Secret what) {
  if (IsOwnTrouble(error.number)) return error;
  if (!IsGone(error.number)) refusals_.push_back({pid, error.number, what});
  return {};
}

// What /proc/<pid>/stat says of a process.
struct ProcessState {
  bool may_hold;       // kernel threads and processes that have ended have neither descriptors nor memory
  bool has_no_leader;  // its first thread has ended, and others have not
};

ProcessState StateOf(int process) {
  const Result<UniqueFd> file = OpenAt(process, "stat");
  if (!file) return {!IsGone(file.error().number), false};
  char text[1024];
  const Result<size_t> length = ReadAll(file->get(), text, sizeof text - 1);
  if (!length) return {!IsGone(length.error().number), false};
  text[*length] = '\0';
  // "pid (command) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime
  // cstime priority nice num_threads ...": the command may hold anything but ends at the last parenthesis.
  const char* rest = std::strrchr(text, ')');
  char state = 0;
  unsigned flags = 0;
  long threads = 0;
  if (rest == nullptr ||
      std::sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld", &state,
                  &flags, &threads) != 3) {
    return {true, false};
  }
  constexpr unsigned kKernelThread = 0x00200000;  // PF_KTHREAD
  const bool is_over = state == 'Z' || state == 'X';
  return {!is_over && (flags & kKernelThread) == 0, is_over && threads > 1};
}

Result<void> Scanner::ScanProcess(Watch* watch, int pid) {
  refusals_.clear();
  // Everything below goes through this descriptor, so it is one process, even if the number is used again.
  const Result<UniqueFd> process = OpenAt(proc_.get(), Path("", pid).text, O_PATH | O_DIRECTORY);
  if (process) {
    const size_t known = survey_.processes.size();
    bool has_seen = false;
    const Result<void> scanned = ScanThread(watch, pid, process->get(), &has_seen);
    if (!scanned) return scanned;
    if (!has_seen) {
      const ProcessState state = StateOf(process->get());
      if (!state.may_hold) refusals_.clear();
      if (state.has_no_leader) {
        const Result<void> others = ScanOtherThreads(watch, pid, process->get());
        if (!others) return others;
      }
    }
    if (survey_.processes.size() > known)
      survey_.processes.back().command = CommandOf(process->get(), vague_command_);
  } else {
    for (const Survey::Secret what : {Survey::Secret::kDescriptors, Survey::Secret::kMappings}) {
      const Result<void> noted = Refuse(pid, process.error(), what);
      if (!noted) return noted;
    }
  }
  survey_.refusals.insert(survey_.refusals.end(), refusals_.begin(), refusals_.end());
  return {};
}

// A first thread that has ended has given back what all share: any other shows it.
Result<void> Scanner::ScanOtherThreads(Watch* watch, int pid, int process) {
  const Result<UniqueFd> folder = OpenAt(process, "task", O_RDONLY | O_DIRECTORY);
  if (!folder) return Refuse(pid, folder.error(), Survey::Secret::kDescriptors);
  std::vector<int> ids;
  const Result<void> listed = ForEachNumber(folder->get(), [&](int id, const char*) -> Result<void> {
    if (id != pid) ids.push_back(id);
    return {};
  });
  if (!listed) return Refuse(pid, listed.error(), Survey::Secret::kDescriptors);
  bool has_seen = false;
  for (size_t index = 0; index < ids.size() && !has_seen; index++) {
    refusals_.clear();
    const Result<UniqueFd> thread = OpenAt(folder->get(), Path("", ids[index]).text, O_PATH | O_DIRECTORY);
    const Result<void> scanned = thread ? ScanThread(watch, pid, thread->get(), &has_seen)
                                        : Refuse(pid, thread.error(), Survey::Secret::kDescriptors);
    if (!scanned) return scanned;
  }
  return {};
}

Result<void> Scanner::ScanThread(Watch* watch, int pid, int thread, bool* has_seen) {
  // Its memory is this process's own.
  if (IsApart(pid)) return {};
  for (const Survey::Secret what : {Survey::Secret::kDescriptors, Survey::Secret::kMappings}) {
    what_ = what;
    const Result<void> scanned = what == Survey::Secret::kDescriptors
                                     ? ScanDescriptors(watch, pid, thread, has_seen)
                                     : ScanMappings(watch, pid, thread, has_seen);
    if (IsLeftBehind(scanned)) {
      RemoveHung(pid, what);
      return scanned;
    }
    const Result<void> noted = scanned ? scanned : Refuse(pid, scanned.error(), what);
    if (!noted) return noted;
  }
  return {};
}

// Why nothing may be looked at that may never be answered, if so.
Result<void> MayLook(Watch* watch, int pid, int thread, Survey::Secret what) {
  if (HasHung(pid, what)) return SystemError{ETIMEDOUT, "read"};
  const bool is_own = pid == ::getpid();
  if (watch == nullptr || (!is_own && HasHungTooMany(thread))) return SystemError{EAGAIN, "pthread_create"};
  return {};
}

Result<void> Scanner::ScanDescriptors(Watch* watch, int pid, int thread, bool* has_seen) {
  const Result<UniqueFd> folder = OpenAt(thread, "fd", O_RDONLY | O_DIRECTORY);
  if (!folder) return folder.error();
  std::vector<DescriptorLook> looks;
  const auto look = [&] { return AddDescriptors(watch, pid, thread, std::exchange(looks, {})); };
  const Result<void> listed = ForEachNumber(folder->get(), [&](int fd, const char* name) -> Result<void> {
    *has_seen = true;
    // The kernel's own memory says where a link leads. Whatever follows it (stat, statfs, open) may have to
    // ask a server.
    char target[kPrefix.size()];
    const ssize_t length = ::readlinkat(folder->get(), name, target, sizeof target);
    if (length < 0) {
      // A dma-buf's path is never so long.
      if (IsGone(errno) || errno == ENAMETOOLONG) return {};
      return SystemError{errno, "readlink"};
    }
    if (std::string_view(target, static_cast<size_t>(length)) != kPrefix) return {};
    looks.emplace_back().fd = fd;
    return looks.size() < kMostLooks ? Result<void>() : look();
  });
  return listed && !looks.empty() ? look() : listed;
}

Result<void> Scanner::AddDescriptors(Watch* watch, int pid, int thread, std::vector<DescriptorLook> looks) {
  if (device_ == 0) {
    for (DescriptorLook& look : looks) look.wants_status = true;
  }
  const Result<void> may = MayLook(watch, pid, thread, Survey::Secret::kDescriptors);
  if (!may) return may;
  const auto looked = Within(watch, [&] { return LookAtDescriptors(thread, pid, &looks); });
  if (!looked) return kLeftBehind;
  if (!*looked) return UnlessGone(looked->error());
  for (const DescriptorLook& look : looks) {
    const Result<void> added = AddDescriptor(pid, look);
    if (!added) return added;
  }
  return {};
}

// A path (O_PATH) keeps the file, but has no fdinfo of it. Only the kernel gives a file no type.
Result<void> Scanner::AddPath(int pid, const struct statx& status) {
  if ((status.stx_mode & S_IFMT) != 0 || status.stx_dev_major != 0) return {};
  if (status.stx_ino > kMaxFigure || status.stx_size > kMaxFigure) {
    return Refuse(pid, {EOVERFLOW, "statx"}, Survey::Secret::kDescriptors);
  }
  Held held{pid, makedev(0, status.stx_dev_minor), status.stx_ino, status.stx_size, false, true, {}};
  if (device_ == 0) {
    undecided_.push_back(std::move(held));
  } else if (held.device == device_) {
    Add(held);
  }
  return {};
}

// Nothing of an fdinfo can be forged but the name, and no other file has its lines.
Result<void> Scanner::AddDescriptor(int pid, const DescriptorLook& look) {
  if (look.error.number != 0) return UnlessGone(look.error);
  const std::optional<FdInfo> info = ParseFdInfo(look.text);
  if (!info) {
    if (IsPath(look.text)) return AddPath(pid, *look.status);
    // A dma-buf's, with what cannot be told: no other file has this key.
    if (look.text.find("\nexp_name:\t") == std::string::npos) return {};
    return Refuse(pid, {EOVERFLOW, "read"}, Survey::Secret::kDescriptors);
  }

  uint64_t inode = info->inode;
  if (inode == 0 || device_ == 0) {
    // It is the kernel's own file, unless the number is another's by now.
    const struct statx& status = *look.status;
    const bool is_same = (status.stx_mode & S_IFMT) == 0 && (inode == 0 || inode == status.stx_ino);
    if (is_same) device_ = makedev(status.stx_dev_major, status.stx_dev_minor);
    if (inode == 0) {
      if (!is_same) return {};
      inode = status.stx_ino;
    }
  }

  bool is_new = false;
  const uint32_t buffer = survey_.BufferOf(inode, &is_new);
  if (is_new) is_described_.push_back(false);
  survey_.HoldingOf(buffer, pid).fds++;
  if (is_described_[buffer]) return {};
  Survey::Buffer& seen = survey_.buffers[buffer];
  seen.size = info->size;
  seen.size_is_lower_bound = false;
  seen.references = static_cast<int64_t>(info->references);
  seen.exporter = survey_.ExporterOf(info->exporter);
  if (info->name) survey_.SetName(buffer, *info->name);
  is_described_[buffer] = true;
  return {};
}

bool Scanner::IsOtherDevice(dev_t device) const {
  return std::find(other_devices_.begin(), other_devices_.end(), device) != other_devices_.end();
}

Result<void> Scanner::ScanMappings(Watch* watch, int pid, int thread, bool* has_seen) {
  const Result<void> may = MayLook(watch, pid, thread, Survey::Secret::kMappings);
  if (!may) return may;
  const auto file = Within(watch, [&] { return OpenAt(thread, "maps"); });
  if (!file) return kLeftBehind;
  if (!*file) return file->error();
  // The thread's own: a read that comes back late still writes to it.
  const auto lines = std::make_unique<char[]>(kLinesSize);
  size_t kept = 0;
  for (;;) {
    const auto read =
        Within(watch, [&] { return ::read((*file)->get(), lines.get() + kept, kLinesSize - kept); });
    if (!read) return kLeftBehind;
    const ssize_t count = *read;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError{errno, "read"};
    if (count == 0) return {};
    *has_seen = true;
    const char* line = lines.get();
    const char* const end = line + kept + count;
    // The kernel escapes newlines in paths, so every line is a mapping.
    while (const auto* newline =
               static_cast<const char*>(std::memchr(line, '\n', static_cast<size_t>(end - line)))) {
      const Result<void> scanned = ScanLine(watch, pid, thread, line, newline);
      if (!scanned) return scanned;
      line = newline + 1;
    }
    kept = static_cast<size_t>(end - line);
    if (kept == kLinesSize) return SystemError{EPROTO, "read"};  // no line is so long
    std::memmove(lines.get(), line, kept);
  }
}

// "start-end perms offset major:minor inode   path"
Result<void> Scanner::ScanLine(Watch* watch, int pid, int thread, const char* line, const char* end) {
  const auto* at = static_cast<const char*>(std::memchr(line, ' ', static_cast<size_t>(end - line)));
  if (at == nullptr || end - at < 6) return {};
  const char* offset_text = at + 6;
  at = static_cast<const char*>(std::memchr(offset_text, ' ', static_cast<size_t>(end - offset_text)));
  if (at == nullptr) return {};
  at++;
  // Almost every line ends here: memory without a file, and files on disks.
  if (end - at < 6 || at[0] != '0' || at[1] != '0' || at[2] != ':' ||
      (at[3] == '0' && at[4] == '0' && at[5] == ' ')) {
    return {};
  }
  std::string_view rest(at + 3, static_cast<size_t>(end - at - 3));
  const auto minor_number = static_cast<unsigned>(TakeNumber(&rest, 16).value_or(0));
  const dev_t device = makedev(0, minor_number);
  if (device_ != 0 ? device != device_ : IsOtherDevice(device)) return {};
  SkipSpaces(&rest);
  const uint64_t inode = TakeNumber(&rest).value_or(0);
  SkipSpaces(&rest);
  const std::string_view path = rest;
  if (path.substr(0, kPrefix.size()) != kPrefix) return {};

  std::string_view range(line, static_cast<size_t>(end - line));
  const uint64_t range_start = TakeNumber(&range, 16).value_or(0);
  range.remove_prefix(1);
  const uint64_t range_end = TakeNumber(&range, 16).value_or(0);
  std::string_view offset_digits(offset_text, static_cast<size_t>(end - offset_text));
  const uint64_t offset = TakeNumber(&offset_digits, 16).value_or(0);
  Held mapping{pid,
               device,
               inode,
               offset + (range_end - range_start),
               true,
               false,
               std::string(path.substr(kPrefix.size()))};
  const Survey::Buffer* seen = survey_.Find(inode);
  if (device_ == 0 || seen == nullptr || seen->size_is_lower_bound) {
    const Result<void> looked = LookBehind(watch, thread, range_start, range_end, &mapping);
    if (!looked) return looked;
  }
  if (device_ != 0 ? device != device_ : IsOtherDevice(device)) return {};
  // None of the kernel's; but a server of files gives them what numbers it likes.
  if (inode > kMaxFigure || offset > kMaxFigure - (range_end - range_start)) {
    return Refuse(pid, {EOVERFLOW, "read"}, Survey::Secret::kMappings);
  }
  if (device_ == 0) {
    undecided_.push_back(std::move(mapping));
  } else {
    Add(mapping);
  }
  return {};
}

// What only /proc/<pid>/map_files shows, and only to who has CAP_CHECKPOINT_RESTORE: the size of a buffer
// that may have no descriptor any more, and that the path in `maps` is nobody's invention. Only the kernel
// gives a file no type.
Result<void> Scanner::LookBehind(Watch* watch, int thread, uint64_t start, uint64_t end, Held* mapping) {
  char path[64];
  std::snprintf(path, sizeof path, "map_files/%" PRIx64 "-%" PRIx64, start, end);
  struct statx status;
  const auto found = Within(watch, [&] {
    return Statx(thread, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO | STATX_SIZE,
                 &status);
  });
  if (!found) return kLeftBehind;
  if (*found < 0 || status.stx_ino != mapping->inode) return {};
  if ((status.stx_mode & S_IFMT) != 0 ||
      makedev(status.stx_dev_major, status.stx_dev_minor) != mapping->device) {
    if (device_ == 0) other_devices_.push_back(mapping->device);
    return {};
  }
  device_ = mapping->device;
  mapping->size = status.stx_size;
  mapping->size_is_lower_bound = false;
  return {};
}

void Scanner::Add(const Held& mapping) {
  bool is_new = false;
  const uint32_t buffer = survey_.BufferOf(mapping.inode, &is_new);
  Survey::Holding& holding = survey_.HoldingOf(buffer, mapping.pid);
  (mapping.is_path ? holding.fds : holding.mappings)++;
  Survey::Buffer& seen = survey_.buffers[buffer];
  if (is_new) {
    is_described_.push_back(false);
    seen.size_is_lower_bound = mapping.size_is_lower_bound;
    // A newline is shown as "\012", and so are these four characters.
    if (!mapping.name.empty() && mapping.name.find("\\012") == std::string::npos) {
      survey_.SetName(buffer, mapping.name);
    }
  }
  if (is_new || seen.size_is_lower_bound) {
    seen.size = std::max(seen.size, mapping.size);
    seen.size_is_lower_bound = mapping.size_is_lower_bound;
  }
}

Survey Scanner::Finish() {
  // Where no descriptor has shown the device, the path is all there is.
  for (const Held& mapping : undecided_) {
    if (device_ != 0 ? mapping.device != device_ : IsOtherDevice(mapping.device)) continue;
    const size_t known = survey_.processes.size();
    Add(mapping);
    if (survey_.processes.size() == known) continue;
    const Result<UniqueFd> process = OpenAt(proc_.get(), Path("", mapping.pid).text, O_PATH | O_DIRECTORY);
    if (process) survey_.processes.back().command = CommandOf(process->get(), vague_command_);
  }
  return std::move(survey_);
}

}  // namespace

Result<Survey> ScanProcesses(std::string vague_command) {
  Result<UniqueFd> proc = OpenAt(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY);
  if (!proc) return proc.error();
  struct statfs system;
  const int result = Retry([&] { return ::fstatfs(proc->get(), &system); });
  if (result < 0) return SystemError{errno, "fstatfs"};
  if (system.f_type != PROC_SUPER_MAGIC) return SystemError{ENODEV, "/proc"};
  const auto scanner = std::make_shared<Scanner>(std::move(*proc), std::move(vague_command));
  const Result<void> listed = scanner->ListAll();
  if (!listed) return listed.error();
  // The first one that hangs has had its time; who waits for others besides should not wait as long for each.
  constexpr std::chrono::milliseconds kLessPatience(200);
  std::chrono::milliseconds patience = kPatience;
  while (scanner->next() < scanner->count()) {
    const bool is_own = scanner->next() == 0;
    const size_t end = is_own ? 1 : scanner->count();
    const auto outcome = std::make_shared<Result<void>>();
    const auto run = [scanner, outcome, end](Watch* watch) {
      const Result<void> scanned = scanner->Run(watch, end);
      if (!IsLeftBehind(scanned)) *outcome = scanned;
    };
    const Watched watched = RunWatched(patience, run, is_own ? kMostLeftByItself : kMostLeft);
    if (watched == Watched::kLeft) {
      scanner->PassOver();
      patience = kLessPatience;
      continue;
    }
    if (watched == Watched::kNotStarted) *outcome = scanner->Run(nullptr, end);
    if (!*outcome) return outcome->error();
  }
  return scanner->Finish();
}

}  // namespace dmabuf::os
