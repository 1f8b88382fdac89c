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

// Of files that could not be looked at.
constexpr dev_t kUnknownDevice = ~dev_t{0};

struct Batch {
  size_t left = 0;
};

// A descriptor that a thread of the closer closes.
struct ClosingTask {
  int fd = -1;
  bool known = true;                     // others were told the number
  std::optional<FileIdentity> identity;  // none: a look at it has failed
  dev_t device = kUnknownDevice;         // whose files may wait for one another; 0: for no other's
  std::shared_ptr<Sender> sender;
  std::shared_ptr<Batch> batch;            // that somebody waits for
  std::shared_ptr<Discarding> discarding;  // instead of closing
};

// What waits to be closed, by sender and then by device. Senders have their turns, and so have the devices of
// each: what one of them has waiting, of however many devices, costs the others no time. Used under the
// closer's lock.
class ClosingQueue {
 public:
  [[nodiscard]] size_t size() const { return size_; }
  // Whether it might be taken now, if nothing else waited.
  bool Add(ClosingTask&& task);
  // Takes what is to be thrown away out again; false where it is not here any more.
  bool Withdraw(const std::shared_ptr<Discarding>& discarding);
  // Whether Take() would find any.
  [[nodiscard]] bool HasNext() const;
  // The next whose sender and device have their share of the threads yet. It counts as running then, until
  // Finish().
  std::optional<ClosingTask> Take();
  void Finish(const ClosingTask& task);

 private:
  // What waits of one sender on one device, in the order in which it came. None is empty.
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
