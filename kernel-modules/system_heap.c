// SPDX-License-Identifier: MIT OR GPL-2.0
// The kernel's own system heap with the macros of a module. Newer kernels, which can build it as a module,
// have these macros themselves.

#include <linux/module.h>
#include <linux/version.h>

#include "drivers/dma-buf/heaps/system_heap.c"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_DESCRIPTION("The heap of the system's memory");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
#endif
