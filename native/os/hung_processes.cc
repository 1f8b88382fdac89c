#include "os/hung_processes.h"

#include <map>
#include <mutex>
#include <utility>

namespace dmabuf {
namespace {

struct Hung {
  std::mutex mutex;
  std::map<std::pair<int, Survey::Secret>, int> reads;
};

// Never destroyed, as a thread may come back at any time.
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

void AddHung(int pid, Survey::Secret what, int reads) {
  Hung& hung = All();
  const std::lock_guard<std::mutex> lock(hung.mutex);
  const auto key = std::make_pair(pid, what);
  if ((hung.reads[key] += reads) == 0) hung.reads.erase(key);
}

}  // namespace dmabuf
