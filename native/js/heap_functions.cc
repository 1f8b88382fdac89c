#include <fcntl.h>

#include <climits>

#include "js/functions.h"
#include "js/job.h"
#include "os/device.h"
#include "os/dma_heap.h"
#include "os/file.h"

namespace dmabuf::js {
namespace {
napi_value OpenHeap(Call& call) {
  char path[PATH_MAX];
  if (!call.Read(0, path, sizeof path)) return nullptr;
  Result<UniqueFd> fd = os::OpenDevice(path, os::DeviceKind::kHeap);
  if (!fd) return call.Fail(fd.error(), path), nullptr;
  const Result<os::FileStatus> status = os::StatusOf(fd->get());
  if (!status) return call.Fail(status.error(), path), nullptr;
  return call.Yield(call.addon().handles->Add(HandleKind::kHeap, std::move(*fd), *status));
}

napi_value StampOfFolder(Call& call) {
  char path[PATH_MAX];
  if (!call.Read(0, path, sizeof path)) return nullptr;
  const std::optional<std::string> stamp = os::StampOfFolder(path);
  return stamp ? call.Text(*stamp) : nullptr;
}

napi_value IsHeapAt(Call& call) {
  Handle* heap = nullptr;
  char path[PATH_MAX];
  if (!call.Read(0, HandleKind::kHeap, Identity::kUnasked, &heap) || !call.Read(1, path, sizeof path)) {
    return nullptr;
  }
  return call.Boolean(os::IsStillAt(path, heap->fd.get()));
}

napi_value AllocateSync(Call& call) {
  const auto reservation = call.addon().TakeReservation();
  Handle* heap = nullptr;
  uint64_t size = 0;
  int32_t access_mode = 0;
  if (!call.Read(0, HandleKind::kHeap, Identity::kIfLent, &heap) || !call.Read(1, &size) ||
      !call.Read(2, &access_mode)) {
    return nullptr;
  }
  Result<UniqueFd> buffer = os::AllocateFromHeap(heap->fd.get(), size, access_mode);
  if (!buffer) return call.Fail(buffer.error()), nullptr;
  return call.Yield(call.addon().handles->AddNewBuffer(std::move(*buffer)));
}

napi_value AllocateAsync(Call& call) {
  auto reservation = call.addon().TakeReservation();
  Handle* heap = nullptr;
  uint64_t size = 0;
  int32_t access_mode = 0;
  if (!call.Read(0, HandleKind::kHeap, Identity::kAsked, &heap) || !call.Read(1, &size) ||
      !call.Read(2, &access_mode)) {
    return nullptr;
  }
  // A copy for the job, since the heap may be closed meanwhile.
  Result<UniqueFd> copy = os::Duplicate(heap->fd.get());
  if (!copy) return call.Fail(copy.error()), nullptr;
  QueueJob(
      call, "dmabuf.allocate", std::move(*copy),
      [size, access_mode, reservation = std::move(reservation)](int file) {
        return os::AllocateFromHeap(file, size, access_mode);
      },
      call.argument(3));
  return nullptr;
}

}  // namespace

const Exports kHeapFunctions = {
    {"openHeap", Entry<OpenHeap, 1>},           {"stampOfFolder", Entry<StampOfFolder, 1>},
    {"isHeapAt", Entry<IsHeapAt, 2>},           {"allocateSync", Entry<AllocateSync, 3>},
    {"allocateAsync", Entry<AllocateAsync, 4>},
};

}  // namespace dmabuf::js
