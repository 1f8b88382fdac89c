#pragma once

#include <cstdint>

#include "js/call.h"
#include "os/received.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// What receive() and receiveBytes() say in place of a length.
enum Outcome : int32_t {
  kNothing = -1,
  kEnd = -2,
  kDataCut = -3,
  kHandlesCut = -4,
  kLater = -5,
  kDropped = -6,
};

enum class Arriving : uint8_t { kAsObjects, kAsNumbers };

// Hands a descriptor that somebody sent to JavaScript: as a handle where it is one of our kinds, and wanted
// so, else as a number. It is unclaimed, at the next place.
void AddArrival(Call& call, UniqueFd fd, const Connection& connection, Arriving as, double* registers);

// The same of all that came at once.
void AddArrivals(Call& call, os::Descriptors& fds, const Connection& connection, Arriving as);

int64_t Milliseconds();

// Whether there are numbers for as many descriptors as can come at once. Looked at every now and then, and
// received against an eighth of what was free: the rest is for whatever else opens files meanwhile.
bool HasRoom(DescriptorRoom& room);

}  // namespace dmabuf::js
