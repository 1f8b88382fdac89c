#pragma once

// The kernel's own headers, and what is newer than the oldest of them that this project builds against.

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

// <linux/magic.h> has it since 5.11.
#ifndef DMA_BUF_MAGIC
#define DMA_BUF_MAGIC 0x444d4142
#endif

namespace dmabuf {

// include/linux/dma-buf.h, DMA_BUF_NAME_LEN (32), less the terminating NUL.
constexpr unsigned kMaxNameBytes = 31;

}  // namespace dmabuf
