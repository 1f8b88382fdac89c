#pragma once

#include "js/call.h"

// Every function that addon.cc exports, by the file that defines it. The comments give the JavaScript
// signature; `handle` is the number of an open object.

namespace dmabuf::js {

// heap_functions.cc
napi_value OpenHeap(Call& call);      // (path: string) => handle
napi_value AllocateSync(Call& call);  // (heap: handle, size, accessMode) => handle
napi_value AllocateAsync(
    Call& call);  // (heap: handle, size, accessMode, done: (handle | -errno, call) => void)

// buffer_functions.cc
napi_value ImportFd(Call& call);         // (fd, take: boolean) => handle
napi_value IsDmaBufFd(Call& call);       // (fd) => boolean
napi_value DescribeHandle(Call& call);   // (handle) => void; [0..2] = fd, inode, size
napi_value MeasureBuffer(Call& call);    // (handle) => void; [1], [2] = inode, size; the fd stays unknown
napi_value VerifyHandle(Call& call);     // (handle) => void
napi_value CloseHandle(Call& call);      // (handle) => true when it was lost, else undefined
napi_value IsLostHandle(Call& call);     // (handle) => boolean
napi_value AbandonHandle(Call& call);    // (handle) => void
napi_value ReleaseHandle(Call& call);    // (handle) => fd
napi_value DuplicateHandle(Call& call);  // (handle) => handle of the same kind
napi_value ListHandles(Call& call);      // (Float64Array) => count of handles; see lib/native.ts
napi_value SetName(Call& call);          // (handle, name: string) => void
napi_value BeginAccess(Call& call);      // (handle, direction) => void
napi_value TryBeginAccess(Call& call);   // (handle, direction) => boolean; false while fences are pending
napi_value EndAccess(Call& call);        // (handle, direction) => void

// mapping_functions.cc
napi_value MapRange(Call& call);       // (handle, writable: boolean, offset, length) => ArrayBuffer; [0] = id
napi_value UnmapRange(Call& call);     // (handle, id) => void
napi_value IsMappedRange(Call& call);  // (handle, id) => boolean
napi_value DescribeMappingLimits(Call& call);  // () => void; [0..4] = MappingLimits
napi_value MapWhole(Call& call);               // (handle) => ArrayBuffer
napi_value ReadBytes(Call& call);              // (handle, target: Uint8Array, position, length) => void
napi_value WriteBytes(Call& call);             // (handle, source: Uint8Array, position) => void

// fence_functions.cc
napi_value IsReadyFor(Call& call);            // (handle, direction) => boolean
napi_value StartPoll(Call& call);             // (handle, direction, done: (0 | -errno) => void) => wait
napi_value WaitOnThread(Call& call);          // () => void; before the first StartPoll
napi_value CancelPoll(Call& call);            // (wait) => void
napi_value ImportSyncFileFd(Call& call);      // (fd, take: boolean) => handle
napi_value ExportFences(Call& call);          // (buffer: handle, direction) => handle
napi_value ImportFences(Call& call);          // (buffer: handle, file: handle, direction) => void
napi_value StatusOfSyncFile(Call& call);      // (handle) => 1 | 0 | -errno
napi_value InfoOfSyncFile(Call& call);        // (handle) => string; see lib/native.ts
napi_value ManyFencesOfSyncFile(Call& call);  // (handle, Float64Array) => string
napi_value MergeFencesAsync(
    Call& call);  // (name: string, handles: Float64Array, done: (handle | -errno, syscall))
napi_value MergeFences(Call& call);       // (name: string, handles: Float64Array) => handle; [0] = 0 | -errno
napi_value SetFenceDeadline(Call& call);  // (handle, deadline: bigint) => void

// socket_functions.cc
napi_value CreateChannelPair(Call& call);  // () => void; [0], [1] = handles
napi_value AdoptChannel(Call& call);       // (fd) => handle
napi_value MarkCloseOnExec(Call& call);    // (handle) => void
napi_value AcceptChannel(Call& call);      // (server: handle) => handle | -EAGAIN
napi_value DescribePeer(Call& call);       // (handle) => void; [0..2] = pid, uid, gid
napi_value LimitMessages(Call& call);      // (handle, bytes: 0 to leave it) => bytes
napi_value SendOnChannel(Call& call);   // (handle, data: Uint8Array, count) => 0 | -EAGAIN; see lib/native.ts
napi_value CloseNumbers(Call& call);    // (numbers: Float64Array, count: number) => void
napi_value HoldForSending(Call& call);  // (channel, isHandle: boolean, handle or fd) => handle
napi_value TakeMessage(Call& call);     // (Uint8Array) => void
napi_value ReceiveOnChannel(Call& call);   // (handle, capacity) => bytes | code; see lib/native.ts
napi_value ImportFromProcess(Call& call);  // (pid, fd) => handle

// place_functions.cc; `address` is a path's bytes, or NUL and an abstract name. Each that takes a patience
// looks up a path: ETIMEDOUT when that is not over after so many milliseconds, EBUSY where no thread is left.
napi_value ConnectChannel(Call& call);    // (address: Uint8Array) => handle | -EAGAIN; [0] = 1 for a lookup
napi_value FinishConnecting(Call& call);  // (lookup) => handle | -EAGAIN
napi_value ConnectingState(Call& call);   // (lookup) => 0: not over, 1: kept out, 2: over
napi_value OpenPlace(Call& call);         // (path: string, patience) => folder
napi_value OpenInPlace(Call& call);       // (folder, name: string, patience) => file; [0], [1] = mode, user
napi_value RemoveInPlace(Call& call);     // (folder, name: string, patience) => void
napi_value ChangeModeAt(Call& call);      // (file, mode, patience) => void
napi_value IsSocketAliveAt(Call& call);   // (file, patience) => boolean
napi_value LockPlace(Call& call);         // (folder, patience) => handle | -EAGAIN
napi_value ListenAtName(Call& call);      // (address: Uint8Array, mode) => server
napi_value ListenInPlace(Call& call);     // (folder, address: Uint8Array, mode, patience) => server
napi_value KeepPlace(Call& call);         // (server, folder, file, absolute path: string) => void
napi_value RemoveSocket(Call& call);      // (server, patience) => void

// udmabuf_functions.cc
napi_value CreateSealedMemfd(Call& call);     // (name: string, size, hugePageSize) => fd
napi_value SealsOfFd(Call& call);             // (fd) => seals; [0] = size
napi_value UdmabufFromPieces(Call& call);     // (Float64Array of memfd, offset, size, ...) => handle
napi_value AllocateUdmabufSync(Call& call);   // (size) => handle
napi_value AllocateUdmabufAsync(Call& call);  // (size, done: (handle | -errno, call) => void) => void

// fdinfo_functions.cc
napi_value InfoOf(Call& call);  // (handle) => [exporter, name?]; [0..3] = inode, size, references, flags
napi_value ParseFdInfoText(Call& call);  // (text: Uint8Array) => the same, or undefined
napi_value ReadFdInfoOf(Call& call);     // (pid: 0 for self, fd) => the same, or undefined

// survey_functions.cc; `done` gets a RawSurvey (lib/native.ts), or a negative errno and the call's name, and
// after a space the path that is to blame where there is one
napi_value ScanProcfs(Call& call);  // (pids: Float64Array, empty for all, done) => void

napi_value SurveyBpf(Call& call);       // (folder: string, buffers: boolean, holders: boolean, done) => void
napi_value PinIterators(Call& call);    // (folder: string, holders: boolean, mode, gid) => paths
napi_value UnpinIterators(Call& call);  // (folder: string) => names of what is left

napi_value ReadWhole(Call& call);  // (path: string, done: (Buffer | -errno, call) => void) => void

// memory_functions.cc
napi_value FreeMemory(Call& call);  // () => bytes; [0] = all memory
// () => void; [0] = MemAvailable, [1] = page cache of files, [2] = CmaTotal, [3] = CmaFree, in bytes
napi_value AvailableMemory(Call& call);
napi_value SettledMemory(Call& call);  // (isGroups: boolean) => bytes
// (isGroups: boolean, size, available, settled) => boolean; else [0..2] = left, reserved, settled
// settled
napi_value AdmitMemory(Call& call);
napi_value ReserveMemory(Call& call);  // (size, isCharged: boolean) => void
napi_value ForgoMemory(Call& call);    // () => void

}  // namespace dmabuf::js
