// SPDX-License-Identifier: MIT OR GPL-2.0
// The kernel's own sw_sync (fences that programs signal, and that fail when their timeline is closed) as a
// module: its two files and the macros of a module. The kernel itself cannot build it as a module.

#define CONFIG_SW_SYNC 1

#include <linux/module.h>
#include <linux/sync_file.h>

// Modules may not call this function (Linux 6.12); it only names a file in a list for people.
#define sync_file_get_name(file, text, size) ""

#include "drivers/dma-buf/sw_sync.c"
#include "drivers/dma-buf/sync_debug.c"

MODULE_DESCRIPTION("Fences that programs signal");
MODULE_LICENSE("GPL");
