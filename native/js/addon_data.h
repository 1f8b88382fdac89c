#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "js/handles.h"
#include "js/napi_setup.h"
#include "js/poll.h"
#include "js/registers.h"
#include "os/memory_ledger.h"
#include "os/result.h"

namespace dmabuf::js {

// How many descriptors may be received before the free numbers are counted again.
struct DescriptorRoom {
  int64_t looked = 0;  // when, in milliseconds
  size_t left = 0;
  bool ample = false;  // whether there were enough at that time
};

// Everything that the addon keeps for one environment (the main thread or one worker).
struct AddonData {
  explicit AddonData(napi_env env) : polls(env) {}

  Polls polls;
  // Shared with the finalizers of ArrayBuffers, which may outlive this.
  std::shared_ptr<Handles> handles = std::make_shared<Handles>();
  // A Float64Array that JavaScript reads further results from: cheaper than an object per call.
  double* registers = nullptr;
  [[nodiscard]] double* From(Register first) const { return registers + static_cast<uint32_t>(first); }
  template <typename Number>
  void Leave(Register place, Number value) {
    *From(place) = static_cast<double>(value);
  }
  napi_ref registers_reference = nullptr;
  // Numbers that JavaScript sees, see Unclaimed.
  std::unique_ptr<Unclaimed> unclaimed;
  napi_ref unclaimed_reference = nullptr;
  // Messages are received into this, until JavaScript takes a copy: as large as the largest one so far may
  // be.
  std::vector<uint8_t> receive_buffer;
  DescriptorRoom room;
  // Whether this is a worker's environment: the numbers that JavaScript got there are closed at its end.
  bool is_worker = false;
  [[nodiscard]] const void* worker() const { return is_worker ? this : nullptr; }
  // The library's function that makes a DmaBufError.
  napi_ref create_error = nullptr;

  // The reservation for the next call that allocates; returned at the latest when this environment ends.
  std::shared_ptr<os::MemoryReservation> reservation;
  os::MemoryReservation& NextReservation() {
    if (reservation == nullptr) reservation = std::make_shared<os::MemoryReservation>();
    return *reservation;
  }
  std::shared_ptr<os::MemoryReservation> TakeReservation() { return std::exchange(reservation, nullptr); }

  void Throw(napi_env env, const SystemError& error, const char* path) const;
  void Throw(napi_env env, const char* code) const;

  // The library's function that calls startClosers() after a while, and whether that is already scheduled.
  napi_ref await_closers = nullptr;
  bool awaits_closers = false;
  void AskForClosers(napi_env env);
};

}  // namespace dmabuf::js
