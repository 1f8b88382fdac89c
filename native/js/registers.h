#pragma once

#include <cstdint>

namespace dmabuf::js {

// Where a call leaves what it returns in addition to its value. lib/native.ts says which call uses which,
// and has the same names and numbers (scripts/native-names.mjs compares them). No register has two meanings.
enum class Register : uint32_t {
  // Of a file.
  kFd = 0,
  kInode = 1,
  kSize = 2,
  kReferences = 3,
  kFlags = 4,
  kMode = 5,
  // Of a mapping, and of all of them.
  kMapping = 6,
  kMappings = 7,
  kMostMappings = 8,
  kKeptFree = 9,
  kAddressSpace = 10,
  kMostAddressSpace = 11,
  // Of a sync_file.
  kStatus = 12,
  kFenceCount = 13,
  kFailure = 14,
  // Of a connection.
  kFirstEnd = 15,
  kSecondEnd = 16,
  kIsLookup = 17,
  kPid = 18,
  kUid = 19,
  kGid = 20,
  kHandleCount = 21,
  kMessageLength = 22,
  // Of memory.
  kTotalMemory = 23,
  kAvailableMemory = 24,
  kFileCache = 25,
  kCmaTotal = 26,
  kCmaFree = 27,
  kLeftMemory = 28,
  kReservedMemory = 29,
  kSettledMemory = 30,
  // Where pairs begin: status and timestamp of each fence; what each handle of a message is, and its number.
  kFences = 32,
  kHandles = 48,
};

// Room for the handles of the largest message.
constexpr uint32_t kRegisterCount = 560;

}  // namespace dmabuf::js
