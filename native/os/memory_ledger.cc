#include "os/memory_ledger.h"

#include <algorithm>
#include <mutex>

namespace dmabuf::os {
namespace {

std::mutex mutex;
std::array<MemoryAccount, 2> accounts;

MemoryAccount& Account(MemoryStore store) { return accounts[static_cast<size_t>(store)]; }

void Settle(MemoryAccount& account, double size) {
  account.reserved -= size;
  account.settled += size;
  // Without pending requests, earlier counts no longer apply.
  if (account.reserved == 0) account.budget = 0;
}

}  // namespace

double LeftOf(const MemoryAccount& account, double available) {
  // Never less than without pending requests, and as much as before the kernel began to serve them. Without
  // pending requests the counters are complete: other processes may have taken memory since.
  const double left =
      account.reserved == 0 ? available : std::max(account.budget, available - account.reserved);
  return std::max(0.0, std::min(available, left));
}

MemoryReservation::~MemoryReservation() {
  Set(MemoryStore::kMachine, 0);
  Set(MemoryStore::kGroups, 0);
}

bool MemoryReservation::Admit(MemoryStore store, double size, double available, double settled) {
  Set(store, 0);
  const std::lock_guard<std::mutex> lock(mutex);
  MemoryAccount& account = Account(store);
  // Requests that have ended since then may not have been counted yet.
  const double left = LeftOf(account, available - (account.settled - settled));
  if (size > left) return false;
  account.reserved += size;
  account.budget = left - size;
  sizes_[static_cast<size_t>(store)] = size;
  return true;
}

void MemoryReservation::Set(MemoryStore store, double size) {
  double& current = sizes_[static_cast<size_t>(store)];
  if (size == current) return;
  const std::lock_guard<std::mutex> lock(mutex);
  MemoryAccount& account = Account(store);
  account.reserved += size;
  if (current > 0) Settle(account, current);
  current = size;
}

MemoryAccount AccountOf(MemoryStore store) {
  const std::lock_guard<std::mutex> lock(mutex);
  return Account(store);
}

}  // namespace dmabuf::os
