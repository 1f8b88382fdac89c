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
#include <cinttypes>
#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "os/dma_buf.h"
#include "os/fdinfo.h"
#include "os/file.h"
#include "os/unique_fd.h"

namespace dmabuf {
namespace {

bool IsOwnTrouble(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }
bool IsRefusal(int error) { return error == EACCES || error == EPERM; }

// "name" or "folder/name" as openat(2) takes it.
struct Path {
  char text[48];

  Path(const char* folder, int number) { std::snprintf(text, sizeof text, "%s%d", folder, number); }
};

Result<UniqueFd> OpenAt(int folder, const char* path, int flags = O_RDONLY) {
  int fd;
  do {
    fd = ::openat(folder, path, flags | O_CLOEXEC | O_NOCTTY);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return SystemError{errno, "openat"};
  return UniqueFd(fd);
}

// The whole number that `text` is, or -1.
int ParseId(const char* text) {
  if (*text < '0' || *text > '9') return -1;
  int64_t id = 0;
  for (; *text != '\0'; text++) {
    if (*text < '0' || *text > '9') return -1;
    id = id * 10 + (*text - '0');
    if (id > INT32_MAX) return -1;
  }
  return static_cast<int>(id);
}

// The kernel's struct linux_dirent64 (getdents64(2)).
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};

class Scanner {
 public:
  explicit Scanner(UniqueFd proc)
      : proc_(std::move(proc)),
        entries_(std::make_unique<char[]>(kEntriesSize)),
        lines_(std::make_unique<char[]>(kLinesSize)) {}

  Result<void> ScanAll();
  Result<void> ScanProcess(int pid);
  // What can only be decided when all has been seen.
  Survey Finish();

 private:
  static constexpr size_t kEntriesSize = 32768;
  static constexpr size_t kLinesSize = 65536;

  // A mapping whose path and device look like a dma-buf's, seen before the device was known.
  struct Mapping {
    int pid;
    dev_t device;
    uint64_t inode;
    uint64_t size;  // at the least, where it ends
    bool size_is_lower_bound;
    std::string name;
  };

  template <typename Visit>
  Result<void> ForEachNumber(int folder, Visit visit);
  Result<void> ScanDescriptors(int pid, int folder);
  Result<void> Describe(uint32_t buffer, int fd_folder, int fd);
  Result<void> ScanMappings(int pid, int process);
  void ScanLine(int pid, int process, const char* line, const char* end);
  void LookBehind(int process, uint64_t start, uint64_t end, Mapping* mapping);
  void AddMapping(const Mapping& mapping);
  bool IsOtherDevice(dev_t device) const;
  bool IsDmaBufDevice(dev_t device, int folder, const char* name);
  void Decide(dev_t device, int file);
  bool MayHold(int process) const;
  void Refuse(int pid, int process, int error, Survey::Secret what);

  UniqueFd proc_;
  std::unique_ptr<char[]> entries_;
  std::unique_ptr<char[]> lines_;
  Survey survey_;
  // The one file system of all dma-bufs; 0 until the first was seen.
  dev_t device_ = 0;
  std::vector<dev_t> other_devices_;
  std::vector<Mapping> undecided_;
  std::vector<bool> is_described_;
};

template <typename Visit>
Result<void> Scanner::ForEachNumber(int folder, Visit visit) {
  for (;;) {
    const long length = ::syscall(SYS_getdents64, folder, entries_.get(), kEntriesSize);
    if (length < 0) {
      if (errno == EINTR) continue;
      return SystemError{errno, "getdents64"};
    }
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

Result<void> Scanner::ScanAll() {
  std::vector<int> pids;
  const Result<void> listed = ForEachNumber(proc_.get(), [&](int pid, const char*) -> Result<void> {
    pids.push_back(pid);
    return {};
  });
  if (!listed) return listed;
  for (const int pid : pids) {
    const Result<void> scanned = ScanProcess(pid);
    if (!scanned) return scanned;
  }
  return {};
}

Result<void> Scanner::ScanProcess(int pid) {
  // Everything below goes through this descriptor, so it is one process, even if the number is used again.
  const Result<UniqueFd> process = OpenAt(proc_.get(), Path("", pid).text, O_PATH | O_DIRECTORY);
  if (!process) {
    if (IsOwnTrouble(process.error().number)) return process.error();
    return {};
  }
  {
    const Result<UniqueFd> folder = OpenAt(process->get(), "fd", O_RDONLY | O_DIRECTORY);
    const Result<void> scanned = folder ? ScanDescriptors(pid, folder->get()) : folder.error();
    if (!scanned) {
      const int error = scanned.error().number;
      if (IsOwnTrouble(error)) return scanned;
      if (IsRefusal(error)) Refuse(pid, process->get(), error, Survey::Secret::kDescriptors);
    }
  }
  const Result<void> scanned = ScanMappings(pid, process->get());
  if (!scanned) {
    const int error = scanned.error().number;
    if (IsOwnTrouble(error)) return scanned;
    if (IsRefusal(error)) Refuse(pid, process->get(), error, Survey::Secret::kMappings);
  }
  return {};
}

Result<void> Scanner::ScanDescriptors(int pid, int folder) {
  return ForEachNumber(folder, [&](int fd, const char* name) -> Result<void> {
    struct statx status;
    if (Statx(folder, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO | STATX_SIZE,
              &status) < 0) {
      if (!IsRefusal(errno)) return {};
      // Either nothing of this process may be seen, or it is a file of somebody's FUSE, which is no dma-buf.
      char target[8];
      if (::readlinkat(folder, name, target, sizeof target) >= 0 || !IsRefusal(errno)) return {};
      return SystemError{errno, "statx"};
    }
    // Dma-bufs have no type, and are on a file system without a block device.
    if ((status.stx_mode & S_IFMT) != 0 || status.stx_dev_major != 0) return {};
    if (!IsDmaBufDevice(makedev(status.stx_dev_major, status.stx_dev_minor), folder, name)) return {};

    bool is_new = false;
    const uint32_t buffer = survey_.BufferOf(status.stx_ino, &is_new);
    if (is_new) is_described_.push_back(false);
    survey_.HoldingOf(buffer, pid).fds++;
    if (is_described_[buffer]) return {};
    survey_.buffers[buffer].size = status.stx_size;
    survey_.buffers[buffer].size_is_lower_bound = false;
    return Describe(buffer, folder, fd);
  });
}

// Nothing of an fdinfo can be forged but the name; the inode in it (Linux 5.15) shows that the number still
// is the same file.
Result<void> Scanner::Describe(uint32_t buffer, int fd_folder, int fd) {
  char text[kFdInfoCapacity];
  const Result<UniqueFd> file = OpenAt(fd_folder, Path("../fdinfo/", fd).text);
  if (!file && IsOwnTrouble(file.error().number)) return file.error();
  if (!file) return {};
  const Result<size_t> length = ReadAll(file->get(), text, sizeof text);
  if (!length) return {};
  const std::optional<FdInfo> info = ParseFdInfo({text, *length});
  Survey::Buffer& seen = survey_.buffers[buffer];
  if (!info || (info->inode != 0 && info->inode != seen.inode)) return {};
  seen.references = static_cast<int64_t>(info->references);
  seen.exporter = survey_.ExporterOf(info->exporter);
  if (info->name) survey_.SetName(buffer, *info->name);
  is_described_[buffer] = true;
  return {};
}

bool Scanner::IsOtherDevice(dev_t device) const {
  return std::find(other_devices_.begin(), other_devices_.end(), device) != other_devices_.end();
}

// Whether the entry of a process's fd folder, of which the device is known, is a dma-buf.
bool Scanner::IsDmaBufDevice(dev_t device, int folder, const char* name) {
  if (device_ != 0 || IsOtherDevice(device)) return device == device_;
  // Only the kernel gives a file no type, so there is no server that statfs(2) could be waiting for.
  const Result<UniqueFd> file = OpenAt(folder, name, O_PATH);
  if (file) Decide(device, file->get());
  return device == device_;
}

void Scanner::Decide(dev_t device, int file) {
  const Result<bool> is_dma_buf = IsDmaBuf(file);
  if (is_dma_buf && *is_dma_buf) {
    device_ = device;
  } else {
    other_devices_.push_back(device);
  }
}

Result<void> Scanner::ScanMappings(int pid, int process) {
  const Result<UniqueFd> file = OpenAt(process, "maps");
  if (!file) return file.error();
  size_t kept = 0;
  for (;;) {
    const ssize_t count = ::read(file->get(), lines_.get() + kept, kLinesSize - kept);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError{errno, "read"};
    if (count == 0) return {};
    const char* line = lines_.get();
    const char* const end = line + kept + count;
    // The kernel escapes newlines in paths, so every line is a mapping.
    while (const auto* newline =
               static_cast<const char*>(std::memchr(line, '\n', static_cast<size_t>(end - line)))) {
      ScanLine(pid, process, line, newline);
      line = newline + 1;
    }
    kept = static_cast<size_t>(end - line);
    if (kept == kLinesSize) return {};  // no line is so long
    std::memmove(lines_.get(), line, kept);
  }
}

uint64_t ParseDigits(const char** at, const char* end, unsigned base) {
  uint64_t value = 0;
  for (; *at < end; ++*at) {
    const char character = **at;
    const unsigned digit = character <= '9' ? static_cast<unsigned>(character - '0')
                                            : static_cast<unsigned>(character - 'a') + 10;
    if (digit >= base) break;
    value = value * base + digit;
  }
  return value;
}

// "start-end perms offset major:minor inode   path"
void Scanner::ScanLine(int pid, int process, const char* line, const char* end) {
  const auto* at = static_cast<const char*>(std::memchr(line, ' ', static_cast<size_t>(end - line)));
  if (at == nullptr || end - at < 6) return;
  const char* offset_text = at + 6;
  at = static_cast<const char*>(std::memchr(offset_text, ' ', static_cast<size_t>(end - offset_text)));
  if (at == nullptr) return;
  at++;
  // Almost every line ends here: memory without a file, and files on disks.
  if (end - at < 6 || at[0] != '0' || at[1] != '0' || at[2] != ':' ||
      (at[3] == '0' && at[4] == '0' && at[5] == ' ')) {
    return;
  }
  at += 3;
  const auto minor_number = static_cast<unsigned>(ParseDigits(&at, end, 16));
  const dev_t device = makedev(0, minor_number);
  if (device_ != 0 ? device != device_ : IsOtherDevice(device)) return;
  at++;
  const uint64_t inode = ParseDigits(&at, end, 10);
  while (at < end && *at == ' ') at++;
  constexpr std::string_view kPrefix = "/dmabuf:";
  const std::string_view path(at, static_cast<size_t>(end - at));
  if (path.substr(0, kPrefix.size()) != kPrefix) return;

  const char* number = line;
  const uint64_t range_start = ParseDigits(&number, end, 16);
  number++;
  const uint64_t range_end = ParseDigits(&number, end, 16);
  const uint64_t offset = ParseDigits(&offset_text, end, 16);
  Mapping mapping{
      pid, device, inode, offset + (range_end - range_start), true, std::string(path.substr(kPrefix.size()))};
  const Survey::Buffer* seen = survey_.Find(inode);
  if (device_ == 0 || seen == nullptr || seen->size_is_lower_bound) {
    LookBehind(process, range_start, range_end, &mapping);
  }
  if (device_ == 0) {
    if (!IsOtherDevice(device)) undecided_.push_back(std::move(mapping));
  } else if (device == device_) {
    AddMapping(mapping);
  }
}

// What only /proc/<pid>/map_files shows, and only to who has CAP_CHECKPOINT_RESTORE: the size of a buffer
// that may have no descriptor any more, and that the path in `maps` is nobody's invention.
void Scanner::LookBehind(int process, uint64_t start, uint64_t end, Mapping* mapping) {
  char path[64];
  std::snprintf(path, sizeof path, "map_files/%" PRIx64 "-%" PRIx64, start, end);
  const Result<UniqueFd> file = OpenAt(process, path, O_PATH);
  if (!file) return;
  if (device_ == 0) Decide(mapping->device, file->get());
  const Result<FileStatus> status = StatusOf(file->get());
  if (!status || status->identity.inode != mapping->inode) return;
  mapping->size = status->size;
  mapping->size_is_lower_bound = false;
}

void Scanner::AddMapping(const Mapping& mapping) {
  bool is_new = false;
  const uint32_t buffer = survey_.BufferOf(mapping.inode, &is_new);
  survey_.HoldingOf(buffer, mapping.pid).mappings++;
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

// Kernel threads and processes that have ended have neither descriptors nor memory.
bool Scanner::MayHold(int process) const {
  const Result<UniqueFd> file = OpenAt(process, "stat");
  if (!file) return false;
  char text[1024];
  const Result<size_t> length = ReadAll(file->get(), text, sizeof text - 1);
  if (!length) return false;
  text[*length] = '\0';
  // "pid (command) state ppid pgrp session tty tpgid flags ...": the command may hold anything but ends at
  // the last parenthesis.
  const char* rest = std::strrchr(text, ')');
  char state = 0;
  unsigned flags = 0;
  if (rest == nullptr || std::sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
    return true;
  constexpr unsigned kKernelThread = 0x00200000;  // PF_KTHREAD
  return state != 'Z' && state != 'X' && (flags & kKernelThread) == 0;
}

void Scanner::Refuse(int pid, int process, int error, Survey::Secret what) {
  const bool is_known = !survey_.refusals.empty() && survey_.refusals.back().pid == pid;
  if (is_known || MayHold(process)) survey_.refusals.push_back({pid, error, what});
}

Survey Scanner::Finish() {
  // Where no descriptor has shown the device, the path is all there is.
  for (const Mapping& mapping : undecided_) {
    if (device_ != 0 ? mapping.device == device_ : !IsOtherDevice(mapping.device)) AddMapping(mapping);
  }
  return std::move(survey_);
}

}  // namespace

Result<Survey> ScanProcesses(const std::vector<int>& pids) {
  Result<UniqueFd> proc = OpenAt(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY);
  if (!proc) return proc.error();
  struct statfs system;
  if (::fstatfs(proc->get(), &system) < 0 || system.f_type != PROC_SUPER_MAGIC) {
    return SystemError{ENODEV, "/proc"};
  }
  Scanner scanner(std::move(*proc));
  if (pids.empty()) {
    const Result<void> scanned = scanner.ScanAll();
    if (!scanned) return scanned.error();
  }
  for (const int pid : pids) {
    const Result<void> scanned = scanner.ScanProcess(pid);
    if (!scanned) return scanned.error();
  }
  Survey survey = scanner.Finish();
  ReadCommands(&survey);
  return survey;
}

namespace {

// The file name of what was executed, by the process's own account (argv[0]).
std::string ProgramOf(int pid) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
  char text[PATH_MAX];
  const Result<size_t> length = ReadSmallFile(path, text, sizeof text);
  const std::string program(text, length ? strnlen(text, *length) : 0);
  return program.substr(program.rfind('/') + 1);
}

}  // namespace

void ReadCommands(Survey* survey) {
  for (Survey::Process& process : survey->processes) {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%d/comm", process.pid);
    char text[64];
    const Result<size_t> length = ReadSmallFile(path, text, sizeof text);
    if (!length || *length == 0) continue;
    process.command.assign(text, text[*length - 1] == '\n' ? *length - 1 : *length);
    // What Node.js since 24 calls the main thread of whatever it runs.
    if (process.command != "MainThread") continue;
    std::string program = ProgramOf(process.pid);
    if (!program.empty()) process.command = std::move(program);
  }
}

}  // namespace dmabuf
