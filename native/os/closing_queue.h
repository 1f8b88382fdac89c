#pragma once

#include <sys/types.h>

#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "os/closer.h"
#include "os/file.h"

namespace dmabuf::os {

// For files that could not be inspected.
constexpr dev_t kUnknownDevice = ~dev_t{0};

struct Batch {
  size_t left = 0;
};

// A descriptor that a thread of the closer closes.
struct ClosingTask {
  int fd = -1;
  bool known = true;                     // other code knows the number
  std::optional<FileIdentity> identity;  // none if the inspection has failed
  dev_t device = kUnknownDevice;         // whose files may wait for one another; 0: for no other file
  std::shared_ptr<Sender> sender;
  std::shared_ptr<Batch> batch;            // for which a thread waits
  std::shared_ptr<Discarding> discarding;  // instead of closing
};

// The descriptors that wait to be closed, by sender and then by device. Senders take turns, and so do the
// devices of each: the waiting descriptors of one sender, of however many devices, do not delay the others.
// Used under the closer's lock.
class ClosingQueue {
 public:
  [[nodiscard]] size_t size() const { return size_; }
  // Whether it could be taken now if nothing else waited.
  bool Add(ClosingTask&& task);
  // Removes a message that was to be dropped; false if it is no longer here.
  bool Withdraw(const std::shared_ptr<Discarding>& discarding);
  // Whether Take() would find a task.
  [[nodiscard]] bool HasNext() const;
  // Takes the next task whose sender and device have not used up their share of the threads. It counts as
  // running until Finish().
  std::optional<ClosingTask> Take();
  void Finish(const ClosingTask& task);

 private:
  // The waiting tasks of one sender and one device, in the order of arrival. No list is empty.
  struct Lane {
    dev_t device;
    std::deque<ClosingTask> tasks;
  };
  struct Line {
    std::shared_ptr<Sender> sender;
    std::list<Lane> lanes;
    std::unordered_map<dev_t, std::list<Lane>::iterator> by_device;
  };
  struct Running {
    dev_t device;
    std::shared_ptr<Sender> sender;
  };

  [[nodiscard]] bool MayRun(const std::shared_ptr<Sender>& sender) const;
  [[nodiscard]] bool MayRun(dev_t device) const;
  void Forget(std::list<Line>::iterator line, std::list<Lane>::iterator lane, Sender* sender);
  void Judge(Sender& sender) const;
  void JudgeAll() const;

  std::list<Line> lines_;
  std::unordered_map<const Sender*, std::list<Line>::iterator> by_sender_;
  size_t size_ = 0;
  std::vector<Running> running_;
};

}  // namespace dmabuf::os
