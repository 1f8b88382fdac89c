#pragma once

#include <functional>

#include "js/call.h"
#include "os/result.h"
#include "os/unique_fd.h"

namespace dmabuf {

// What a job does on the thread pool: system calls only, with a descriptor of its own.
using JobWork = std::function<Result<UniqueFd>(int file)>;

// Runs `work` on the thread pool, then calls `done(handle, undefined)`, or `done(-errno, the call's name)`. A
// descriptor that it yields becomes a new dma-buf's handle; where it yields none, the number is 0. Whatever
// happens, nothing stays open that found no owner. Returns false with an exception pending when it cannot
// start.
bool QueueJob(Call& call, const char* name, UniqueFd file, JobWork work, napi_value done);

}  // namespace dmabuf
