#pragma once

#include "js/call.h"

// Every function that addon.cc exports, by the file that defines it. The comments give the JavaScript
// signature; `handle` is the number of an open object.

namespace dmabuf {

// heap_functions.cc
napi_value OpenHeap(Call& call);      // (path: string) => handle
napi_value AllocateSync(Call& call);  // (heap: handle, size, accessMode) => handle
napi_value AllocateAsync(
    Call& call);  // (heap: handle, size, accessMode, done: (handle | -errno, call) => void)

// buffer_functions.cc
napi_value ImportFd(Call& call);         // (fd, take: boolean) => handle
napi_value IsDmaBufFd(Call& call);       // (fd) => boolean
napi_value DescribeHandle(Call& call);   // (handle) => void; [0..2] = fd, inode, size
napi_value CloseHandle(Call& call);      // (handle) => void; [1..2] = inode, size
napi_value AbandonHandle(Call& call);    // (handle) => void
napi_value ReleaseHandle(Call& call);    // (handle) => fd
napi_value DuplicateHandle(Call& call);  // (handle) => handle
napi_value SetName(Call& call);          // (handle, name: string) => void
napi_value BeginAccess(Call& call);      // (handle, direction) => void
napi_value EndAccess(Call& call);        // (handle, direction) => void

// mapping_functions.cc
napi_value MapRange(Call& call);    // (handle, writable: boolean, offset, length) => ArrayBuffer; [0] = id
napi_value UnmapRange(Call& call);  // (handle, id) => void
napi_value MapWhole(Call& call);    // (handle) => ArrayBuffer
napi_value ReadBytes(Call& call);   // (handle, target: Uint8Array, position, length) => void
napi_value WriteBytes(Call& call);  // (handle, source: Uint8Array, position) => void

// fdinfo_functions.cc
napi_value InfoOf(Call& call);  // (handle) => [exporter, name?]; [0..3] = inode, size, references, flags
napi_value ParseFdInfoText(Call& call);  // (text: Uint8Array) => the same, or undefined
napi_value ReadFdInfoOf(Call& call);     // (pid: 0 for self, fd) => the same, or undefined

// memory_functions.cc
napi_value FreeMemoryBytes(Call& call);  // () => bytes
napi_value AvailableMemory(Call& call);  // () => void; [0] = MemAvailable, [1] = CmaFree or -1

}  // namespace dmabuf
