// SPDX-License-Identifier: MIT OR GPL-2.0
// The kernel's own code of dma-buf heaps as a module, which it cannot be built as, for kernels that were
// built without: Debian's for arm64.

#include <linux/module.h>
#include <linux/version.h>

#include "drivers/dma-buf/dma-heap.c"

MODULE_DESCRIPTION("The device files of dma-buf heaps");
MODULE_LICENSE("GPL");
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
// Its heaps are built in, and need no exports.
EXPORT_SYMBOL_GPL(dma_heap_add);
EXPORT_SYMBOL_GPL(dma_heap_get_drvdata);
EXPORT_SYMBOL_GPL(dma_heap_get_name);
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif
