#pragma once

#include <cstddef>
#include <cstdint>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::os {

// Descriptors that are waited for: epoll(7). The set's own descriptor is readable while one of them is
// ready. The files themselves are not changed: a flag such as O_NONBLOCK applies to all holders of a file,
// including other processes.
class ReadySet {
 public:
  struct Event {
    uint32_t id;
    int error;  // 0, or an errno
  };

  static Result<ReadySet> Create();

  [[nodiscard]] int fd() const { return set_.get(); }
  // `event` is POLLIN or POLLOUT. Each descriptor may be added once, and must be removed before it is
  // closed.
  Result<void> Add(int fd, short event, uint32_t id);
  void Remove(int fd);
  // Those that are ready now, at most `capacity`; how many. Never waits.
  size_t Take(Event* events, size_t capacity);

  static constexpr size_t kMostTaken = 64;

 private:
  explicit ReadySet(UniqueFd set) : set_(std::move(set)) {}

  UniqueFd set_;
};

}  // namespace dmabuf::os
