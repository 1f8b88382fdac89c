#include "os/process_scan.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "os/apart.h"
#include "os/file.h"
#include "os/hung_processes.h"
#include "os/process_command.h"
#include "os/process_scanner.h"
#include "os/retry.h"

namespace dmabuf::os {
namespace {

// Then this process can trust nothing that it sees.
bool IsOwnTrouble(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

// "name" or "folder/name" as openat(2) takes it.
struct Path {
  char text[48];

  Path(const char* folder, int number) { std::snprintf(text, sizeof text, "%s%d", folder, number); }
};

}  // namespace

Result<void> ProcessScanner::ListAll() {
  pids_.push_back(::getpid());
  return ForEachNumber(proc_.get(), [&](int pid, const char*) -> Result<void> {
    if (pid != pids_.front()) pids_.push_back(pid);
    return {};
  });
}

Result<void> ProcessScanner::Run(Watch* watch, size_t end) {
  for (; next_ < end; next_++) {
    const Result<void> scanned = ScanProcess(watch, pids_[next_]);
    if (!scanned) return scanned;
  }
  return {};
}

void ProcessScanner::PassOver() {
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

Result<void> ProcessScanner::Refuse(int pid, const SystemError& error, Survey::Secret what) {
  if (IsOwnTrouble(error.number)) return error;
  if (!IsGone(error.number)) refusals_.push_back({pid, error.number, what});
  return {};
}

namespace {

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

}  // namespace

Result<void> ProcessScanner::ScanProcess(Watch* watch, int pid) {
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

// A first thread that has ended has released what all threads share: any other thread shows it.
Result<void> ProcessScanner::ScanOtherThreads(Watch* watch, int pid, int process) {
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

Result<void> ProcessScanner::ScanThread(Watch* watch, int pid, int thread, bool* has_seen) {
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

Survey ProcessScanner::Finish() {
  // If no descriptor has shown the device, there is only the path.
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

Result<Survey> ScanProcesses(std::string vague_command) {
  Result<UniqueFd> proc = OpenAt(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY);
  if (!proc) return proc.error();
  struct statfs system;
  const int result = Retry([&] { return ::fstatfs(proc->get(), &system); });
  if (result < 0) return SystemError{errno, "fstatfs"};
  if (system.f_type != PROC_SUPER_MAGIC) return SystemError{ENODEV, "/proc"};
  const auto scanner = std::make_shared<ProcessScanner>(std::move(*proc), std::move(vague_command));
  const Result<void> listed = scanner->ListAll();
  if (!listed) return listed.error();
  // The first one that hangs had the full time; the caller should not wait as long for each further one.
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
