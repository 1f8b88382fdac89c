#pragma once

#include <cstdint>

// The kernel's own headers, and what is newer than the oldest of them that this project builds against.

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/sync_file.h>
#include <linux/udmabuf.h>
#include <sys/syscall.h>

// <linux/magic.h> has it since 5.11.
#ifndef DMA_BUF_MAGIC
#define DMA_BUF_MAGIC 0x444d4142
#endif

// Has the same number on all architectures; Linux 5.9.
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

namespace dmabuf::os {

// CLOSE_RANGE_UNSHARE, from include/uapi/linux/close_range.h since 5.9.
constexpr unsigned kCloseRangeUnshare = 1U << 1;

// include/linux/dma-buf.h, DMA_BUF_NAME_LEN (32), less the terminating NUL.
constexpr unsigned kMaxNameBytes = 31;

// SYNC_IOC_SET_DEADLINE and its argument, from include/uapi/linux/sync_file.h since 6.4.
struct SyncDeadline {
  uint64_t deadline_ns;
  uint64_t pad;
};
constexpr unsigned long kSetDeadline = _IOW(SYNC_IOC_MAGIC, 5, SyncDeadline);

}  // namespace dmabuf::os
