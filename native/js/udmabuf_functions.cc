#include "os/udmabuf.h"

#include <vector>

#include "js/functions.h"
#include "js/job.h"
#include "os/device.h"
#include "os/entrusted.h"
#include "os/file.h"

namespace dmabuf::js {
namespace {

constexpr const char* kDevice = "/dev/udmabuf";
constexpr const char* kMemfdName = "dmabuf";

// A dma-buf over a memfd of its own, which only the dma-buf keeps alive.
Result<UniqueFd> AllocateUdmabuf(int device, uint64_t size) {
  const Result<UniqueFd> memfd = os::CreateMemfd(kMemfdName, size, 0);
  if (!memfd) return memfd.error();
  return os::CreateUdmabuf(device, {{memfd->get(), 0, size}});
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
  // The kernel knows by itself what no memfd is; another process's file may not even be looked at.
  const Result<int> seals = os::Seals(fd);
  if (!seals) return call.Fail(seals.error()), nullptr;
  const Result<os::FileStatus> status = os::StatusOf(fd);
  if (!status) return call.Fail(status.error()), nullptr;
  call.addon().Leave(Register::kSize, status->size);
  return call.Number(*seals);
}

napi_value CreateUdmabuf(Call& call) {
  const auto reservation = call.addon().TakeReservation();
  double* numbers = nullptr;
  size_t length = 0;
  if (!call.Read(0, &numbers, &length)) return nullptr;
  std::vector<os::MemfdPiece> pieces;
  for (size_t index = 0; index + 2 < length; index += 3) {
    pieces.push_back({static_cast<int>(numbers[index]), static_cast<uint64_t>(numbers[index + 1]),
                      static_cast<uint64_t>(numbers[index + 2])});
  }
  const Result<UniqueFd> device = os::OpenDevice(kDevice, os::DeviceKind::kUdmabuf);
  if (!device) return call.Fail(device.error(), kDevice), nullptr;
  Result<UniqueFd> buffer = os::CreateUdmabuf(device->get(), pieces);
  if (!buffer) return call.Fail(buffer.error()), nullptr;
  return call.Yield(call.addon().handles->AddNewBuffer(std::move(*buffer)));
}

napi_value AllocateUdmabufSync(Call& call) {
  const auto reservation = call.addon().TakeReservation();
  uint64_t size = 0;
  if (!call.Read(0, &size)) return nullptr;
  const Result<UniqueFd> device = os::OpenDevice(kDevice, os::DeviceKind::kUdmabuf);
  if (!device) return call.Fail(device.error(), kDevice), nullptr;
  Result<UniqueFd> buffer = AllocateUdmabuf(device->get(), size);
  if (!buffer) return call.Fail(buffer.error()), nullptr;
  return call.Yield(call.addon().handles->AddNewBuffer(std::move(*buffer)));
}

napi_value AllocateUdmabufAsync(Call& call) {
  auto reservation = call.addon().TakeReservation();
  uint64_t size = 0;
  if (!call.Read(0, &size)) return nullptr;
  Result<UniqueFd> device = os::OpenDevice(kDevice, os::DeviceKind::kUdmabuf);
  if (!device) return call.Fail(device.error(), kDevice), nullptr;
  QueueJob(
      call, "dmabuf.allocate", std::move(*device),
      [size, reservation = std::move(reservation)](int file) { return AllocateUdmabuf(file, size); },
      call.argument(1));
  return nullptr;
}

}  // namespace

const Exports kUdmabufFunctions = {
    {"createMemfd", Entry<CreateMemfd, 4>},
    {"seals", Entry<Seals, 1>},
    {"createUdmabuf", Entry<CreateUdmabuf, 1>},
    {"allocateUdmabufSync", Entry<AllocateUdmabufSync, 1>},
    {"allocateUdmabufAsync", Entry<AllocateUdmabufAsync, 2>},
};

}  // namespace dmabuf::js
