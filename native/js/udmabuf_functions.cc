#include "os/udmabuf.h"

#include <climits>
#include <memory>
#include <utility>
#include <vector>

#include "js/functions.h"
#include "js/job.h"
#include "os/device.h"
#include "os/entrusted.h"
#include "os/file.h"

namespace dmabuf::js {
namespace {

// The device, and the pieces of memfds: descriptor, offset and size of each.
bool ReadRequest(Call& call, UniqueFd* device, std::vector<os::MemfdPiece>* pieces) {
  char path[PATH_MAX];
  double* numbers = nullptr;
  size_t length = 0;
  if (!call.Read(0, path, sizeof path) || !call.Read(1, &numbers, &length)) return false;
  for (size_t index = 0; index + 2 < length; index += 3) {
    pieces->push_back({static_cast<int>(numbers[index]), static_cast<uint64_t>(numbers[index + 1]),
                       static_cast<uint64_t>(numbers[index + 2])});
  }
  Result<UniqueFd> opened = os::OpenDevice(path, os::DeviceKind::kUdmabuf);
  if (!opened) return call.Fail(opened.error(), path);
  *device = std::move(*opened);
  return true;
}

napi_value CreateMemfd(Call& call) {
  char name[256];
  uint64_t size = 0;
  uint64_t huge_page_size = 0;
  bool owned = false;
  if (!call.Read(0, name, sizeof name) || !call.Read(1, &size) || !call.Read(2, &huge_page_size) ||
      !call.Read(3, &owned)) {
    return nullptr;
  }
  Result<UniqueFd> memfd = os::CreateMemfd(name, size, huge_page_size);
  if (!memfd) return call.Fail(memfd.error()), nullptr;
  const Result<os::FileStatus> status = os::StatusOf(memfd->get());
  if (!status) return call.Fail(status.error()), nullptr;
  if (owned) return call.Yield(call.addon().handles->Add(HandleKind::kMemfd, std::move(*memfd), *status));
  os::Entrust(memfd->get(), status->identity, nullptr, call.addon().worker());
  return call.Number(memfd->release());
}

napi_value Seals(Call& call) {
  int32_t fd = -1;
  if (!call.Read(0, &fd)) return nullptr;
  // The kernel itself recognises files that are not memfds; to inspect another process's file could block.
  const Result<int> seals = os::Seals(fd);
  if (!seals) return call.Fail(seals.error()), nullptr;
  const Result<os::FileStatus> status = os::StatusOf(fd);
  if (!status) return call.Fail(status.error()), nullptr;
  call.addon().Leave(Register::kSize, status->size);
  return call.Number(*seals);
}

napi_value CreateUdmabuf(Call& call) {
  const auto reservation = call.addon().TakeReservation();
  UniqueFd device;
  std::vector<os::MemfdPiece> pieces;
  if (!ReadRequest(call, &device, &pieces)) return nullptr;
  Result<UniqueFd> buffer = os::CreateUdmabuf(device.get(), pieces);
  if (!buffer) return call.Fail(buffer.error()), nullptr;
  return call.Yield(call.addon().handles->AddNewBuffer(std::move(*buffer)));
}

napi_value CreateUdmabufAsync(Call& call) {
  auto reservation = call.addon().TakeReservation();
  UniqueFd device;
  std::vector<os::MemfdPiece> pieces;
  if (!ReadRequest(call, &device, &pieces)) return nullptr;
  // Copies for the job, since the memfds may be closed meanwhile.
  const auto copies = std::make_shared<std::vector<UniqueFd>>();
  for (os::MemfdPiece& piece : pieces) {
    Result<UniqueFd> copy = os::Duplicate(piece.memfd);
    if (!copy) return call.Fail(copy.error()), nullptr;
    piece.memfd = copy->get();
    copies->push_back(std::move(*copy));
  }
  QueueJob(
      call, "dmabuf.allocate", std::move(device),
      [copies, pieces = std::move(pieces), reservation = std::move(reservation)](int file) {
        return os::CreateUdmabuf(file, pieces);
      },
      call.argument(2));
  return nullptr;
}

}  // namespace

const Exports kUdmabufFunctions = {
    {"createMemfd", Entry<CreateMemfd, 4>},
    {"seals", Entry<Seals, 1>},
    {"createUdmabuf", Entry<CreateUdmabuf, 2>},
    {"createUdmabufAsync", Entry<CreateUdmabufAsync, 3>},
};

}  // namespace dmabuf::js
