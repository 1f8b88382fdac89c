#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace dmabuf::os {

// The accounts: the memory of the machine, and the memory that is charged to this process's control groups.
enum class MemoryStore : size_t { kMachine, kGroups };

// How much of one kind of memory the requests take in addition to what the kernel already counts, since it
// allocates their memory bit by bit. One account for the whole process, whose threads may request at the
// same moment.
struct MemoryAccount {
  double reserved = 0;  // bytes of pending requests
  double budget = 0;    // what the counts since the first pending request leave for others; else 0
  double settled = 0;   // bytes of requests that have ended
};

// The bytes that one request has reserved, until it has ended in any way.
class MemoryReservation {
 public:
  MemoryReservation() = default;
  MemoryReservation(const MemoryReservation&) = delete;
  MemoryReservation(MemoryReservation&&) = delete;
  MemoryReservation& operator=(const MemoryReservation&) = delete;
  MemoryReservation& operator=(MemoryReservation&&) = delete;
  ~MemoryReservation();

  // Reserves so many bytes of the store, and no longer what this had reserved there, if they are left of
  // `available`: bytes, which were counted when the account had `settled`.
  bool Admit(MemoryStore store, double size, double available, double settled);
  // The same, even if they are not left.
  void Set(MemoryStore store, double size);

 private:
  std::array<double, 2> sizes_ = {0, 0};
};

MemoryAccount AccountOf(MemoryStore store);
// What is left of so many bytes, of which pending requests may already have taken some.
double LeftOf(const MemoryAccount& account, double available);

}  // namespace dmabuf::os
