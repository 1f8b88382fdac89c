#include "order.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace inject {

State state;

FailingAllocation::FailingAllocation() : fd_(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {
  Set(state.order.allocation);
}

void FailingAllocation::End(int error) {
  char text[16] = {};
  const bool failed = pread(fd_, text, sizeof text - 1, 0) > 0 && atoi(text) == 0;
  Set(0);
  close(fd_);
  const std::lock_guard<std::mutex> lock(state.mutex);
  if (!failed) {
    state.hits--;
  } else {
    state.outcome = error;
  }
  errno = error;
}

void FailingAllocation::Set(uint32_t nth) const {
  char text[16];
  const int length = snprintf(text, sizeof text, "%u", nth);
  // The kernel counts from here on: the write itself allocates nothing.
  if (pwrite(fd_, text, static_cast<size_t>(length), 0) != length) abort();
}

int ErrorFor(const char* function, uint64_t detail) {
  const std::lock_guard<std::mutex> lock(state.mutex);
  if (!state.counting) return 0;
  Kind* kind = nullptr;
  for (size_t index = 0; index < state.kind_count && kind == nullptr; index++) {
    Kind& known = state.kinds[index];
    if (known.detail == detail && strcmp(known.function, function) == 0) kind = &known;
  }
  if (kind == nullptr) {
    if (state.kind_count == sizeof state.kinds / sizeof *state.kinds) return 0;
    kind = &state.kinds[state.kind_count++];
    *kind = {function, detail, 0};
  }
  kind->count++;
  const Order& order = state.order;
  if (order.times == 0 || order.detail != detail || order.function != function) return 0;
  if (kind->count < order.first || kind->count - order.first >= order.times) return 0;
  state.hits++;
  return order.allocation > 0 ? kAllocation : order.error;
}

}  // namespace inject
