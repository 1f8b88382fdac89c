#pragma once

// The only include of napi.h, so that every file sees the same NAPI_* settings (binding.gyp).
#include <napi.h>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// Types that both layers use. All other names of the layer below are used with their namespace.
using os::Result;
using os::SystemError;
using os::UniqueFd;

}  // namespace dmabuf::js
