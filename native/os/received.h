#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "os/closer.h"
#include "os/result.h"
#include "os/unique_fd.h"

// What recvmsg(2) receives from a Unix socket, and the descriptors in it.

namespace dmabuf::os {

// SCM_MAX_FD of the kernel.
constexpr size_t kMaxHandles = 253;

// The descriptors of a message, until each has found its owner.
class Descriptors {
 public:
  explicit Descriptors(const std::shared_ptr<Sender>& sender) : sender_(sender) {}
  Descriptors(const Descriptors&) = delete;
  Descriptors(Descriptors&&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  Descriptors& operator=(Descriptors&&) = delete;
  ~Descriptors() {
    if (count_ > 0) Clear();
  }

  [[nodiscard]] size_t count() const { return count_; }
  [[nodiscard]] int get(size_t index) const { return fds_[index]; }
  [[nodiscard]] UniqueFd Take(size_t index) { return UniqueFd(std::exchange(fds_[index], -1)); }
  void Add(UniqueFd fd) {
    if (count_ < kMaxHandles) fds_[count_++] = fd.release();
  }
  // Closes what was not taken, by the closer.
  void Clear(Wait wait = Wait::kNo);

 private:
  const std::shared_ptr<Sender>& sender_;
  int fds_[kMaxHandles];
  size_t count_ = 0;
};

// The result of one recvmsg(2).
struct Arrival {
  ssize_t length = -1;  // of the whole message; -1 if there is none
  bool marked = false;
  bool data_cut = false;
  bool control_cut = false;
};
// recvmsg(2) that never waits. Without `fds` it asks for no control messages.
Result<Arrival> ReceiveNow(int socket, int flags, uint8_t* data, size_t capacity, Descriptors* fds);

// What it means.
struct Received {
  enum class Kind : uint8_t { kMessage, kNothing, kEnd, kDataTruncated, kHandlesTruncated, kNoRoom };
  Kind kind;
  size_t length;     // bytes: of the whole message, even of one that did not fit
  size_t delivered;  // how many descriptors arrived, or could have
  bool marked;
};

// recvmsg(2) of what is there, or may be there: if messages are marked, and on streams, a result without
// bytes, descriptors and mark is the end. The descriptors, close-on-exec, go into `fds`; those of a truncated
// message are closed.
Result<Received> Take(int socket, uint8_t* data, size_t capacity, Descriptors* fds, bool is_message);

// getsockopt(2) of SOL_SOCKET.
Result<int> IntegerOption(int socket, int option);
// Whether looks (MSG_PEEK) show what is there: another holder of this end may have made them begin beyond it
// (SO_PEEK_OFF).
bool CanLookAt(int socket);

}  // namespace dmabuf::os
