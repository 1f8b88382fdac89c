#pragma once

// Which system calls fail, and how: what the scripts order, what the wrappers ask for, and what has come of
// it.

#include <stdint.h>

#include <mutex>
#include <string>

namespace inject {

// A system call as scripts distinguish them: the function, and what it was asked for (an ioctl's request, an
// option).
struct Kind {
  const char* function;
  uint64_t detail;
  uint32_t count;
};

// Which of them fails: from the `first` on, `times` in a row, with this errno; or, if `allocation` is not 0,
// with the result of a failure of the kernel's n-th allocation.
struct Order {
  std::string function;
  uint64_t detail = 0;
  uint32_t first = 0;
  uint32_t times = 0;
  int error = 0;
  uint32_t allocation = 0;
};

// The call makes fewer allocations than the order says.
constexpr int kUnasked = -1;

struct State {
  std::mutex mutex;
  Kind kinds[512];
  size_t kind_count = 0;
  bool counting = false;
  Order order;
  uint32_t hits = 0;
  // The result of the kernel's failure: the call's errno, 0 if the kernel has coped, or kUnasked.
  int outcome = kUnasked;
};
extern State state;

// Instead of an errno: the call is made, in a thread whose allocations fail.
constexpr int kAllocation = -1;

// Counts the call. Returns the errno with which it has to fail, kAllocation, or 0.
int ErrorFor(const char* function, uint64_t detail);

// /proc/self/task/N/fail-nth (Documentation/fault-injection/fault-injection.rst): while this exists, the n-th
// allocation of the calling thread fails.
class FailingAllocation {
 public:
  FailingAllocation();
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;

  // Ends it. `error`: the call's errno, 0 if it has succeeded.
  void End(int error);

 private:
  void Set(uint32_t nth) const;

  const int fd_;
};

}  // namespace inject
