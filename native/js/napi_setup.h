#pragma once

// The only include of napi.h, so that every file sees the same NAPI_* settings (binding.gyp).
#include <napi.h>

#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf::js {

// What both floors speak in. Everything else of the floor below is called by its whole name.
using os::Result;
using os::SystemError;
using os::UniqueFd;

}  // namespace dmabuf::js
