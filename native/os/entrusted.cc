#include "os/entrusted.h"

#include <atomic>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace dmabuf::os {
namespace {

struct Entry {
  FileIdentity identity;
  std::shared_ptr<Sender> sender;
  const void* environment;
};

struct Table {
  std::mutex mutex;
  std::unordered_map<int, Entry> entries;
  std::atomic<size_t> size{0};
};

// Never destroyed: workers may end while the process does.
Table& TheTable() {
  static auto* table = new Table();
  return *table;
}

// Whether the number still refers to that file, as far as the inode shows; files without a type share one
// inode.
bool IsStill(const Result<ForeignStatus>& status, const FileIdentity& identity, bool certainly) {
  return status && status->file.identity == identity && !(certainly && status->type == 0);
}

}  // namespace

void Entrust(int fd, const FileIdentity& identity, const std::shared_ptr<Sender>& sender,
             const void* environment) {
  if (environment == nullptr && !sender) return;
  Table& table = TheTable();
  const std::lock_guard<std::mutex> lock(table.mutex);
  table.entries[fd] = Entry{identity, sender, environment};
  table.size = table.entries.size();
}

void Redeem(int fd) { (void)Redeem(fd, ForeignStatus{}); }

std::shared_ptr<Sender> Redeem(int fd, const Result<ForeignStatus>& status) {
  Table& table = TheTable();
  if (table.size == 0) return nullptr;
  const std::lock_guard<std::mutex> lock(table.mutex);
  const auto found = table.entries.find(fd);
  if (found == table.entries.end()) return nullptr;
  const Entry entry = std::move(found->second);
  table.entries.erase(found);
  table.size = table.entries.size();
  return IsStill(status, entry.identity, false) ? entry.sender : nullptr;
}

void CloseEntrusted(const void* environment) {
  if (environment == nullptr) return;
  std::vector<ForeignFile> files;
  Table& table = TheTable();
  const std::lock_guard<std::mutex> lock(table.mutex);
  for (auto entry = table.entries.begin(); entry != table.entries.end();) {
    const auto& [fd, what] = *entry;
    if (what.environment != environment) {
      ++entry;
      continue;
    }
    if (IsStill(StatusWithoutServer(fd), what.identity, true)) files.push_back({fd, what.sender});
    entry = table.entries.erase(entry);
  }
  table.size = table.entries.size();
  (void)CloseForeignFiles(files);
}

}  // namespace dmabuf::os
