#include "os/descriptor_look.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "os/apart.h"
#include "os/fdinfo.h"
#include "os/file.h"
#include "os/hung_processes.h"
#include "os/watched.h"

namespace dmabuf::os {
namespace {

void LookAt(int process, DescriptorLook* look) {
  char path[32];
  std::snprintf(path, sizeof path, "fdinfo/%d", look->fd);
  const Result<UniqueFd> file = OpenAt(process, path);
  if (!file) {
    look->error = file.error();
    return;
  }
  FdInfoText buffer;
  const Result<std::string_view> text = ReadFdInfo(file->get(), &buffer);
  if (!text) {
    look->error = text.error();
    return;
  }
  look->text = *text;
  const std::optional<FdInfo> info = ParseFdInfo(look->text);
  if (info ? !look->wants_status && info->inode != 0 : !IsPath(look->text)) return;
  std::snprintf(path, sizeof path, "fd/%d", look->fd);
  struct statx status;
  if (Statx(process, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO | STATX_SIZE,
            &status) < 0) {
    look->error = {errno, "statx"};
  } else {
    look->status = status;
  }
}

// The same limit as in readFdInfo(), when another process may block it.
Result<std::string> ReadWatched(int pid, int fd) {
  constexpr Survey::Secret kWhat = Survey::Secret::kDescriptors;
  constexpr SystemError kHangs{ETIMEDOUT, "read"};
  if (HasHung(pid, kWhat)) return kHangs;
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d", pid);
  Result<UniqueFd> process = OpenAt(AT_FDCWD, path, O_PATH | O_DIRECTORY);
  if (!process) return process.error();
  if (HasHungTooMany(process->get())) return SystemError{EAGAIN, "pthread_create"};
  struct Errand {
    UniqueFd process;
    std::vector<DescriptorLook> looks;
    Result<void> outcome;
  };
  const auto errand = std::make_shared<Errand>();
  errand->process = std::move(*process);
  errand->looks.emplace_back().fd = fd;
  const Watched watched = RunWatched(kPatience, [errand, pid](Watch* watch) {
    const auto looked =
        Within(watch, [&] { return LookAtDescriptors(errand->process.get(), pid, &errand->looks); });
    if (looked) {
      errand->outcome = *looked;
    } else {
      RemoveHung(pid, kWhat);
    }
  });
  if (watched == Watched::kNotStarted) return SystemError{EAGAIN, "pthread_create"};
  if (watched == Watched::kLeft) {
    const Result<UniqueFd> folder = OpenAt(AT_FDCWD, path, O_PATH | O_DIRECTORY);
    AddHung(pid, kWhat, folder ? UserOf(folder->get()) : 0);
    return kHangs;
  }
  if (!errand->outcome) return errand->outcome.error();
  DescriptorLook& look = errand->looks.front();
  // The text is read before the status is requested.
  if (look.text.empty() && look.error.number != 0) return look.error;
  return std::move(look.text);
}

}  // namespace

Result<void> LookAtDescriptors(int process, int pid, std::vector<DescriptorLook>* looks) {
  const auto look_at_all = [looks](int folder) {
    for (DescriptorLook& look : *looks) LookAt(folder, &look);
  };
  if (pid != ::getpid()) return RunApart(process, look_at_all);
  look_at_all(process);
  return {};
}

Result<std::string> ReadFdInfo(int pid, int fd) {
  const FdInfoPath path = PathOfFdInfo(pid, fd);
  const Result<UniqueFd> file = OpenForReading(path.text);
  if (!file) return file.error();
  // Not for every file: to print an epoll's fdinfo, the kernel waits for a lock that another process may
  // hold.
  const Result<bool> may_be = MayBeDmaBuf(pid, fd);
  if (!may_be) return may_be.error();
  if (!*may_be) return std::string();
  if (pid != 0 && pid != ::getpid()) {
    // It may be such a file by now.
    const Result<std::string> text = ReadWatched(pid, fd);
    const bool is_gone = !text && (text.error().number == ENOENT || text.error().number == ESRCH);
    return is_gone ? SystemError{ENOENT, "open"} : text;
  }
  FdInfoText buffer;
  const Result<std::string_view> text = ReadFdInfo(file->get(), &buffer);
  if (!text) return text.error();
  return std::string(*text);
}

}  // namespace dmabuf::os
