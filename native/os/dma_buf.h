#pragma once

#include <cstdint>

#include "os/result.h"

namespace dmabuf::os {

// The direction of a CPU access, in the kernel's bits (DMA_BUF_SYNC_READ, _WRITE, _RW).
enum class CpuAccess : uint32_t { kRead = 1, kWrite = 2, kReadWrite = 3 };

// fstatfs(2): the only test with no side effect (DMA_BUF_MAGIC, Linux 5.3).
Result<bool> IsDmaBuf(int fd);

// The event of poll(2) that says that such an access need not wait: POLLIN when the writers' fences have
// signalled, POLLOUT when all have. Never both: poll returns when either holds.
short PollEvent(CpuAccess access);
// poll(2) without waiting: have the fences that matter for this access signalled?
Result<bool> IsReady(int fd, CpuAccess access);

// DMA_BUF_IOCTL_SYNC with START: waits for the buffer's fences, so it may block for as long as a device
// works. Repeated on EINTR and EAGAIN, as the kernel's header demands.
Result<void> BeginCpuAccess(int fd, CpuAccess access);
// DMA_BUF_IOCTL_SYNC with END. `access` must be the one that START named.
Result<void> EndCpuAccess(int fd, CpuAccess access);

// DMA_BUF_SET_NAME: at most kMaxNameBytes bytes before the NUL, else EINVAL.
Result<void> SetName(int fd, const char* name);

}  // namespace dmabuf::os
