#include "os/survey.h"

namespace dmabuf::os {

uint32_t Survey::BufferOf(uint64_t inode, bool* is_new) {
  const auto [entry, inserted] = buffer_by_inode_.try_emplace(inode, static_cast<uint32_t>(buffers.size()));
  *is_new = inserted;
  if (inserted) buffers.emplace_back().inode = inode;
  return entry->second;
}

const Survey::Buffer* Survey::Find(uint64_t inode) const {
  const auto entry = buffer_by_inode_.find(inode);
  return entry == buffer_by_inode_.end() ? nullptr : &buffers[entry->second];
}

uint32_t Survey::ProcessOf(int pid) {
  // Sources go process by process.
  if (last_process_ < processes.size() && processes[last_process_].pid == pid) return last_process_;
  const auto [entry, inserted] = process_by_pid_.try_emplace(pid, static_cast<uint32_t>(processes.size()));
  if (inserted) processes.emplace_back().pid = pid;
  last_process_ = entry->second;
  return last_process_;
}

Survey::Holding& Survey::HoldingOf(uint32_t buffer, int pid) {
  const uint32_t process = ProcessOf(pid);
  const uint64_t both = uint64_t{buffer} << 32 | process;
  const auto [entry, inserted] = holding_by_both_.try_emplace(both, static_cast<uint32_t>(holdings.size()));
  if (inserted) {
    Holding& holding = holdings.emplace_back();
    holding.buffer = buffer;
    holding.process = process;
  }
  return holdings[entry->second];
}

std::string_view Survey::NameOf(const Buffer& buffer) const {
  return std::string_view(text).substr(buffer.name_start, static_cast<size_t>(buffer.name_length));
}

void Survey::SetName(uint32_t buffer, std::string_view name) {
  buffers[buffer].name_start = static_cast<uint32_t>(text.size());
  buffers[buffer].name_length = static_cast<int32_t>(name.size());
  text += name;
}

int32_t Survey::ExporterOf(std::string_view name) {
  // A machine has a handful.
  for (size_t index = 0; index < exporters.size(); index++) {
    if (exporters[index] == name) return static_cast<int32_t>(index);
  }
  exporters.emplace_back(name);
  return static_cast<int32_t>(exporters.size() - 1);
}

}  // namespace dmabuf::os
