#include "os/bpf_pins.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "os/bpf.h"
#include "os/bpf_folder.h"
#include "os/bpf_survey.h"

namespace dmabuf::os {
namespace {

constexpr std::array kIterators = {BpfIterator::kBuffers, BpfIterator::kDescriptors, BpfIterator::kMappings};

// Whether the file exists, and has the content that PinIterators() places. Every other file belongs to
// another program.
enum class Pin : uint8_t { kNone, kOurs, kForeign };

// Whether OpenPinned() has found a file that PinIterators() does not place; other failures say nothing about
// this.
bool IsForeign(const SystemError& error) {
  const std::string_view call = error.call;
  switch (error.number) {
    case ELOOP:
      return call == "openat";
    case EINVAL:
      return call == "fstatfs";
    case EPERM:
      return call == "fstat";
    case EPROTO:
      return true;
    default:
      return false;
  }
}

Result<Pin> ExaminePin(int folder, const char* name, BpfIterator iterator) {
  const Result<UniqueFd> file = OpenPinned(folder, name);
  if (file) {
    const Result<bool> reads = ReadsAs(iterator, file->get());
    if (!reads) return reads.error();
    return *reads ? Pin::kOurs : Pin::kForeign;
  }
  if (file.error().number == ENOENT) return Pin::kNone;
  if (IsForeign(file.error())) return Pin::kForeign;
  return file.error();
}

// A name that no other thread is using. BPF file systems allow no dot.
std::string NewNameOf(BpfIterator iterator) {
  return std::string(PinName(iterator)) + "-" + std::to_string(::syscall(SYS_gettid));
}

// The iterator of a file by its name, which may be the temporary one.
std::optional<BpfIterator> IteratorOf(std::string_view name) {
  for (const BpfIterator iterator : kIterators) {
    const std::string_view whole = PinName(iterator);
    if (name.substr(0, whole.size()) != whole) continue;
    const std::string_view rest = name.substr(whole.size());
    const bool is_new = rest.size() > 1 && rest[0] == '-' &&
                        rest.find_first_not_of("0123456789", 1) == std::string_view::npos;
    if (rest.empty() || is_new) return iterator;
  }
  return std::nullopt;
}

Result<void> Remove(int folder, const char* name, int flags = 0) {
  if (::unlinkat(folder, name, flags) < 0 && errno != ENOENT) return SystemError{errno, "unlinkat"};
  return {};
}

// Group before mode: so the file is never more accessible than requested.
Result<void> SetRights(int folder, const char* name, const PinOptions& options) {
  const Result<UniqueFd> file = OpenPinned(folder, name);
  if (!file) return file.error();
  if (options.group != static_cast<gid_t>(-1) &&
      ::fchown(file->get(), static_cast<uid_t>(-1), options.group) < 0) {
    return SystemError{errno, "fchown"};
  }
  if (::fchmod(file->get(), options.mode) < 0) return SystemError{errno, "fchmod"};
  return {};
}

Result<void> PinNew(int link, int folder, const char* name, const PinOptions& options) {
  Result<void> pinned = PinLink(link, folder, name);
  if (!pinned && pinned.error().number == EEXIST) {
    // A thread with this number ended before it had finished.
    const Result<void> removed = Remove(folder, name);
    if (!removed) return removed;
    pinned = PinLink(link, folder, name);
  }
  if (!pinned) return pinned;
  return SetRights(folder, name, options);
}

struct Placement {
  BpfIterator iterator;
  UniqueFd link;
};

// Under other names first, so that a failure leaves the existing files unchanged.
Result<void> Place(const std::vector<Placement>& placements, int folder, const PinOptions& options) {
  for (const Placement& placement : placements) {
    const Result<void> pinned =
        PinNew(placement.link.get(), folder, NewNameOf(placement.iterator).c_str(), options);
    if (!pinned) return pinned;
  }
  for (const Placement& placement : placements) {
    const std::string name = NewNameOf(placement.iterator);
    if (::renameat(folder, name.c_str(), folder, PinName(placement.iterator)) < 0) {
      return SystemError{errno, "renameat"};
    }
  }
  return {};
}

// Files that will be replaced or removed must be ours.
Result<void> CheckOlder(int folder, bool holders, std::vector<BpfIterator>* unwanted, std::string* where) {
  for (const BpfIterator iterator : kIterators) {
    const bool is_wanted = holders || iterator == BpfIterator::kBuffers;
    const Result<Pin> older = ExaminePin(folder, PinName(iterator), iterator);
    if (older && (*older == Pin::kNone || (*older == Pin::kForeign && !is_wanted))) continue;
    if (older && *older == Pin::kOurs) {
      if (!is_wanted) unwanted->push_back(iterator);
      continue;
    }
    *where += std::string("/") + PinName(iterator);
    return older ? SystemError{EEXIST, "BPF_OBJ_PIN"} : older.error();
  }
  return {};
}

Result<std::vector<Placement>> LinkAll(bool holders) {
  std::vector<Placement> placements;
  for (const BpfIterator iterator : kIterators) {
    if (!holders && iterator != BpfIterator::kBuffers) continue;
    Result<UniqueFd> link = LinkSurvey(iterator);
    if (!link) return link.error();
    placements.push_back({iterator, std::move(*link)});
  }
  return placements;
}

Result<std::vector<std::string>> NamesIn(int folder) {
  const int fd = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* listing = fd < 0 ? nullptr : ::fdopendir(fd);
  if (listing == nullptr) {
    const SystemError error{errno, "openat"};
    if (fd >= 0) ::close(fd);
    return error;
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  const int error = errno;
  ::closedir(listing);
  if (error != 0) return SystemError{error, "getdents64"};
  return names;
}

}  // namespace

Result<std::vector<std::string>> PinIterators(const std::string& path, const PinOptions& options,
                                              std::string* where) {
  Result<BpfFolder> folder = FindBpfFolder(path, where);
  if (!folder) return folder.error();
  std::vector<BpfIterator> unwanted;
  if (folder->folder.valid()) {
    const Result<void> checked = CheckOlder(folder->folder.get(), options.holders, &unwanted, where);
    if (!checked) return checked.error();
  }
  const std::string place = std::exchange(*where, std::string());
  const Result<std::vector<Placement>> placements = LinkAll(options.holders);
  if (!placements) return placements.error();

  *where = place;
  const bool is_new = !folder->folder.valid();
  if (is_new) {
    const Result<void> made = MakeBpfFolder(&*folder);
    if (!made) return made.error();
  }
  const int target = folder->folder.get();
  Result<void> placed = Place(*placements, target, options);
  for (const BpfIterator iterator : unwanted) {
    if (placed) placed = Remove(target, PinName(iterator));
  }
  if (!placed) {
    for (const Placement& placement : *placements) {
      (void)Remove(target, NewNameOf(placement.iterator).c_str());
    }
    if (is_new) (void)Remove(folder->parent.get(), folder->name.c_str(), AT_REMOVEDIR);
    return placed.error();
  }
  std::vector<std::string> paths;
  for (const Placement& placement : *placements) {
    paths.push_back(place + "/" + PinName(placement.iterator));
  }
  return paths;
}

Result<std::vector<std::string>> UnpinIterators(const std::string& path, std::string* where) {
  const Result<BpfFolder> folder = OpenBpfFolder(path, where);
  if (!folder) return folder.error();
  const int target = folder->folder.get();
  const Result<std::vector<std::string>> names = NamesIn(target);
  if (!names) return names.error();
  std::vector<std::string> ours;
  std::vector<std::string> left;
  for (const std::string& name : *names) {
    const std::optional<BpfIterator> iterator = IteratorOf(name);
    const Result<Pin> pin = iterator ? ExaminePin(target, name.c_str(), *iterator) : Pin::kForeign;
    if (!pin) {
      *where += "/" + name;
      return pin.error();
    }
    if (*pin == Pin::kOurs) ours.push_back(name);
    if (*pin == Pin::kForeign) left.push_back(name);
  }
  for (const std::string& name : ours) {
    const Result<void> removed = Remove(target, name.c_str());
    if (removed) continue;
    *where += "/" + name;
    return removed.error();
  }
  if (left.empty()) {
    const Result<void> removed = Remove(folder->parent.get(), folder->name.c_str(), AT_REMOVEDIR);
    // EBUSY: the file system's own folder.
    if (!removed && removed.error().number != EBUSY) return removed.error();
  }
  return left;
}

}  // namespace dmabuf::os
