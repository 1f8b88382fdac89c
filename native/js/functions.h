#pragma once

#include <initializer_list>

#include "js/call.h"

namespace dmabuf::js {

// A function for JavaScript: its name in lib/native.ts, which says what it takes and returns, and Entry<> of
// the function with the same name (scripts/native-names.mjs compares them).
struct Export {
  const char* name;
  napi_callback callback;
};
using Exports = std::initializer_list<Export>;

// One table for each file of functions; addon.cc joins them.
extern const Exports kBufferFunctions;
extern const Exports kFdinfoFunctions;
extern const Exports kFenceFunctions;
extern const Exports kFrameFunctions;
extern const Exports kHeapFunctions;
extern const Exports kMappingFunctions;
extern const Exports kMemoryFunctions;
extern const Exports kPlaceFunctions;
extern const Exports kSocketFunctions;
extern const Exports kStreamFunctions;
extern const Exports kSurveyFunctions;
extern const Exports kUdmabufFunctions;

}  // namespace dmabuf::js
