#include "os/received.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace dmabuf::os {

void Descriptors::Clear(Wait wait) {
  std::vector<ForeignFile> files;
  for (size_t index = 0; index < count_; index++) {
    if (fds_[index] >= 0) files.push_back({fds_[index], sender_});
  }
  count_ = 0;
  if (!files.empty()) (void)CloseForeignFiles(files, wait);
}

Result<int> IntegerOption(int socket, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(socket, SOL_SOCKET, option, &value, &length) < 0) return SystemError{errno, "getsockopt"};
  return value;
}

bool CanLookAt(int socket) {
  const Result<int> offset = IntegerOption(socket, SO_PEEK_OFF);
  return !offset || *offset < 0;
}

namespace {

// Other control messages than ours: the mark, and credentials, a security label, a pidfd, when an adopted
// socket has them on.
constexpr size_t kOtherControl = 512;
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

// Takes the descriptors out of the control messages, so that each has an owner.
void TakeControl(msghdr* message, Descriptors* fds, Arrival* arrival) {
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_TIMESTAMPNS) arrival->marked = true;
    if (header->cmsg_type != SCM_RIGHTS && header->cmsg_type != SCM_PIDFD) continue;
    const size_t arrived = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < arrived; index++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + index * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (header->cmsg_type == SCM_RIGHTS) fds->Add(std::move(owned));
    }
  }
}

}  // namespace

Result<Arrival> ReceiveNow(int socket, int flags, uint8_t* data, size_t capacity, Descriptors* fds) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxHandles * sizeof(int)) + kOtherControl];
  iovec bytes{data, capacity};
  msghdr message;
  Arrival arrival;
  bool reset = false;
  for (;;) {
    message = {};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = fds == nullptr ? nullptr : control;
    message.msg_controllen = fds == nullptr ? 0 : sizeof control;
    // With MSG_TRUNC the length is the whole message's.
    arrival.length = ::recvmsg(socket, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);
    if (arrival.length >= 0) break;
    if (errno == EINTR) continue;
    // The peer went without reading all of ours: said once, before what it had sent itself.
    if (errno == ECONNRESET && !reset) {
      reset = true;
      continue;
    }
    if (errno == EAGAIN) return arrival;
    return SystemError{errno, "recvmsg"};
  }
  if (fds != nullptr) TakeControl(&message, fds, &arrival);
  arrival.data_cut = (message.msg_flags & MSG_TRUNC) != 0;
  arrival.control_cut = (message.msg_flags & MSG_CTRUNC) != 0;
  return arrival;
}

Result<Received> Take(int socket, uint8_t* data, size_t capacity, Descriptors* fds, bool is_message) {
  const Result<Arrival> arrival = ReceiveNow(socket, 0, data, capacity, fds);
  if (!arrival) return arrival.error();
  if (arrival->length < 0) return Received{Received::Kind::kNothing, 0, 0, false};
  Received received{Received::Kind::kMessage, static_cast<size_t>(arrival->length), fds->count(),
                    arrival->marked};
  if (arrival->data_cut || arrival->control_cut) {
    fds->Clear();
    received.kind = arrival->data_cut ? Received::Kind::kDataTruncated : Received::Kind::kHandlesTruncated;
  } else if (arrival->length == 0 && fds->count() == 0 && !arrival->marked && !is_message) {
    received.kind = Received::Kind::kEnd;
  }
  return received;
}

}  // namespace dmabuf::os
