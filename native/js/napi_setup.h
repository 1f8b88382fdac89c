#pragma once

// The only include of napi.h, so that every file sees the same NAPI_* settings (binding.gyp).
#include <napi.h>
