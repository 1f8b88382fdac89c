#include "os/ready_set.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

namespace dmabuf::os {

Result<ReadySet> ReadySet::Create() {
  UniqueFd set(::epoll_create1(EPOLL_CLOEXEC));
  if (!set.valid()) return SystemError{errno, "epoll_create1"};
  return ReadySet(std::move(set));
}

Result<void> ReadySet::Add(int fd, short event, uint32_t id) {
  epoll_event wanted{};
  wanted.events = event == POLLIN ? EPOLLIN : EPOLLOUT;
  wanted.data.u32 = id;
  if (::epoll_ctl(set_.get(), EPOLL_CTL_ADD, fd, &wanted) < 0) return SystemError{errno, "epoll_ctl"};
  return {};
}

void ReadySet::Remove(int fd) {
  epoll_event unused{};
  ::epoll_ctl(set_.get(), EPOLL_CTL_DEL, fd, &unused);
}

size_t ReadySet::Take(Event* events, size_t capacity) {
  epoll_event ready[kMostTaken];
  const int most = static_cast<int>(std::min(capacity, kMostTaken));
  const int count = ::epoll_wait(set_.get(), ready, most, 0);
  for (int index = 0; index < count; index++) {
    // A file that reports an error here, and states it when it is used, if at all.
    const bool failed = (ready[index].events & EPOLLERR) != 0;
    events[index] = {ready[index].data.u32, failed ? EBADF : 0};
  }
  return count < 0 ? 0 : static_cast<size_t>(count);
}

}  // namespace dmabuf::os
