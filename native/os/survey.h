#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dmabuf::os {

// The result of one survey of the system: its dma-bufs, and the processes that hold them.
struct Survey {
  struct Buffer {
    uint64_t inode = 0;
    uint64_t size = 0;         // bytes
    int64_t references = -1;   // -1: not known
    int32_t exporter = -1;     // index in `exporters`; -1: not known
    int32_t name_length = -1;  // -1: unset, or not known
    uint32_t name_start = 0;   // in `text`
    bool size_is_lower_bound = false;
    bool is_gone = false;  // it existed at first, but not until the end
  };
  struct Process {
    int pid = 0;
    std::string command;  // empty: not known
  };
  struct Holding {
    uint32_t buffer = 0;   // index in `buffers`
    uint32_t process = 0;  // index in `processes`
    uint32_t fds = 0;
    uint32_t mappings = 0;
  };
  enum class Secret : uint8_t { kDescriptors = 1, kMappings = 2 };
  struct Refusal {
    int pid = 0;
    int error = 0;
    Secret what = Secret::kDescriptors;
  };

  std::vector<Buffer> buffers;
  std::vector<Process> processes;  // that hold any
  std::vector<Holding> holdings;
  std::vector<Refusal> refusals;
  std::vector<std::string> exporters;
  std::string text;  // the names

  // The buffer with this inode; `is_new` when it was not there before.
  uint32_t BufferOf(uint64_t inode, bool* is_new);
  // Nothing when it has not been seen.
  [[nodiscard]] const Buffer* Find(uint64_t inode) const;
  // The holding of the buffer by the process.
  Holding& HoldingOf(uint32_t buffer, int pid);
  [[nodiscard]] std::string_view NameOf(const Buffer& buffer) const;
  void SetName(uint32_t buffer, std::string_view name);
  int32_t ExporterOf(std::string_view name);

 private:
  uint32_t ProcessOf(int pid);

  std::unordered_map<uint64_t, uint32_t> buffer_by_inode_;
  std::unordered_map<int, uint32_t> process_by_pid_;
  std::unordered_map<uint64_t, uint32_t> holding_by_both_;
  uint32_t last_process_ = 0;
};

}  // namespace dmabuf::os
