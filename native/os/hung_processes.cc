#include "os/hung_processes.h"

#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "os/file.h"
#include "os/parse.h"

namespace dmabuf::os {
namespace {

struct Reads {
  int count = 0;
  uid_t user = 0;
};

struct Hung {
  std::mutex mutex;
  std::map<std::pair<int, Survey::Secret>, Reads> reads;
};

// Never destroyed, as a thread may return at any time.
Hung& All() {
  static auto* const all = new Hung;
  return *all;
}

}  // namespace

bool HasHung(int pid, Survey::Secret what) {
  Hung& hung = All();
  const std::lock_guard<std::mutex> lock(hung.mutex);
  return hung.reads.count({pid, what}) != 0;
}

void AddHung(int pid, Survey::Secret what, uid_t user) {
  Hung& hung = All();
  const std::lock_guard<std::mutex> lock(hung.mutex);
  const auto key = std::make_pair(pid, what);
  Reads& reads = hung.reads[key];
  reads.user = user;
  if (++reads.count == 0) hung.reads.erase(key);
}

void RemoveHung(int pid, Survey::Secret what) {
  Hung& hung = All();
  const std::lock_guard<std::mutex> lock(hung.mutex);
  const auto key = std::make_pair(pid, what);
  if (--hung.reads[key].count == 0) hung.reads.erase(key);
}

bool HasHungTooMany(int process) {
  Hung& hung = All();
  // Fewer cannot be too many for any user: to find out the user of a process costs something.
  const auto count = [&](const auto& is_his) {
    const std::lock_guard<std::mutex> lock(hung.mutex);
    size_t total = 0;
    for (const auto& [key, reads] : hung.reads) total += reads.count > 0 && is_his(reads.user) ? 1 : 0;
    return total;
  };
  if (count([](uid_t) { return true; }) < kMostHungOfUser) return false;
  const uid_t user = UserOf(process);
  return count([user](uid_t other) { return other == user; }) >= kMostHungOfUser;
}

// Not the owner of the folder, which is root for processes that may not be dumped; a process can choose that
// itself.
uid_t UserOf(int process) {
  const Result<UniqueFd> file = OpenAt(process, "status");
  if (!file) return 0;
  char bytes[4096];
  const Result<size_t> length = ReadAll(file->get(), bytes, sizeof bytes);
  if (!length) return 0;
  std::string_view text(bytes, *length);
  constexpr std::string_view kKey = "\nUid:\t";
  const size_t line = text.find(kKey);
  if (line == std::string_view::npos) return 0;
  text.remove_prefix(line + kKey.size());
  return static_cast<uid_t>(TakeNumber(&text).value_or(0));
}

}  // namespace dmabuf::os
