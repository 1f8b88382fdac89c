#pragma once

// The functions of the C library and of libuv that can be made to fail. One that is missing here is listed by
// intercept().

#include <stddef.h>

namespace inject {

struct Wrapper {
  const char* names;  // the names of the same function, each between two spaces
  void* replacement;
  void** real;
};

// The wrapper of the function with that name; nullptr if there is none.
const Wrapper* FindWrapper(const char* name);

}  // namespace inject
