// SPDX-License-Identifier: MIT OR GPL-2.0
// The kernel's own system heap, with what a module has to say; kernels say it themselves since they let it be
// one.

#include <linux/module.h>
#include <linux/version.h>

#include "drivers/dma-buf/heaps/system_heap.c"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_DESCRIPTION("The heap of the system's memory");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
#endif
