#include "js/arrivals.h"

#include <ctime>
#include <utility>

#include "os/entrusted.h"
#include "os/file.h"
#include "os/file_kind.h"

namespace dmabuf::js {
namespace {

static_assert(Unclaimed::kRoom >= os::kMaxHandles, "a message's handles may all be unclaimed");
static_assert(kRegisterCount >= static_cast<uint32_t>(Register::kHandles) + 2 * os::kMaxHandles,
              "a message's handles go through the registers");

constexpr int64_t kLookEvery = 10;  // milliseconds
constexpr size_t kMostNumbers = os::kMaxHandles + 1;

}  // namespace

void AddArrival(Call& call, UniqueFd fd, const Connection& connection, Arriving as, double* pair) {
  Handles& handles = *call.addon().handles;
  const Result<os::FileDescription> file = os::DescribeForeignFile(fd.get());
  const os::FileKind kind = file && as == Arriving::kAsObjects ? file->kind : os::FileKind::kOther;
  if (kind == os::FileKind::kOther) {
    if (file) os::Entrust(fd.get(), file->status.identity, connection.sender, call.addon().worker());
    call.addon().unclaimed->AddFd(fd.get());
    pair[0] = 0;
    pair[1] = fd.release();
    return;
  }
  const bool is_buffer = kind == os::FileKind::kDmaBuf;
  pair[0] = is_buffer ? 1 : 2;
  const uint32_t slot =
      handles.Add(is_buffer ? HandleKind::kDmaBuf : HandleKind::kSyncFile, std::move(fd), file->status);
  Share(*handles.Find(slot), connection.sender);
  call.addon().unclaimed->AddSlot(slot);
  pair[1] = slot;
}

void AddArrivals(Call& call, os::Descriptors& fds, const Connection& connection, Arriving as) {
  call.addon().unclaimed->Reclaim();
  double* pair = call.addon().From(Register::kHandles);
  for (size_t index = 0; index < fds.count(); index++, pair += 2) {
    AddArrival(call, fds.Take(index), connection, as, pair);
  }
}

int64_t Milliseconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1'000'000;
}

bool HasRoom(DescriptorRoom& room) {
  const int64_t now = Milliseconds();
  if (now - room.looked >= kLookEvery || (room.ample && room.left < kMostNumbers)) {
    room.looked = now;
    room.left = os::FreeDescriptors() / 8;
    room.ample = room.left >= kMostNumbers;
  }
  return room.left >= kMostNumbers;
}

}  // namespace dmabuf::js
