// SPDX-License-Identifier: MIT OR GPL-2.0
// The kernel's own sw_sync (fences that programs signal, and that fail when their timeline is closed) as a
// module, which it cannot be built as: two files, and what a module has to say.

#define CONFIG_SW_SYNC 1

#include <linux/module.h>
#include <linux/sync_file.h>

// Modules may not call it (Linux 6.12); it names a file in a list for people.
#define sync_file_get_name(file, text, size) ""

#include "drivers/dma-buf/sw_sync.c"
#include "drivers/dma-buf/sync_debug.c"

MODULE_DESCRIPTION("Fences that programs signal");
MODULE_LICENSE("GPL");
