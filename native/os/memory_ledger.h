#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace dmabuf::os {

// What is kept account of: the memory of the machine, and what is charged to this process's control groups.
enum class MemoryStore : size_t { kMachine, kGroups };

// What requests take of one store of memory beside what the kernel counts already: it takes their memory bit
// by bit. One account for the whole process, whose threads ask at the same moment.
struct MemoryAccount {
  double reserved = 0;  // bytes of requests on their way
  double budget = 0;    // what is left for others by the counts since something is on its way; else 0
  double settled = 0;   // bytes of requests that have ended
};

// The bytes that one request has reserved, until it has ended in whatever way.
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
  // The same, whether they are left or not.
  void Set(MemoryStore store, double size);

 private:
  std::array<double, 2> sizes_ = {0, 0};
};

MemoryAccount AccountOf(MemoryStore store);
// What is left of so many bytes, of which requests on their way may have taken some already.
double LeftOf(const MemoryAccount& account, double available);

}  // namespace dmabuf::os
