#pragma once

#include <cstdint>

#include "js/call.h"
#include "os/received.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// What receive() and receiveBytes() return in place of a length.
enum Outcome : int32_t {
  kNothing = -1,
  kEnd = -2,
  kDataCut = -3,
  kHandlesCut = -4,
  kLater = -5,
  kDropped = -6,
};

enum class Arriving : uint8_t { kAsObjects, kAsNumbers };

// Gives a descriptor that a peer sent to JavaScript: as a slot if it is one of our kinds and `as` asks for
// objects, else as a number. It is unclaimed, at the next position.
void AddArrival(Call& call, UniqueFd fd, const Connection& connection, Arriving as, double* pair);

// The same for all that came at once.
void AddArrivals(Call& call, os::Descriptors& fds, const Connection& connection, Arriving as);

int64_t Milliseconds();

// Whether enough numbers are free for as many descriptors as can come at once. They are counted at intervals,
// and only an eighth of those that are free is used: the rest is for other code that opens files meanwhile.
bool HasRoom(DescriptorRoom& room);

}  // namespace dmabuf::js
