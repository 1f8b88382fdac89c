// SPDX-License-Identifier: MIT OR GPL-2.0
// The kernel's own dma-buf heap code as a module, for kernels that were built without it (Debian's for
// arm64). The kernel itself cannot build it as a module.

#include <linux/module.h>
#include <linux/version.h>

#include "drivers/dma-buf/dma-heap.c"

MODULE_DESCRIPTION("The device files of dma-buf heaps");
MODULE_LICENSE("GPL");
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
// In the kernel the heaps are built in, so these functions are not exported there.
EXPORT_SYMBOL_GPL(dma_heap_add);
EXPORT_SYMBOL_GPL(dma_heap_get_drvdata);
EXPORT_SYMBOL_GPL(dma_heap_get_name);
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif
