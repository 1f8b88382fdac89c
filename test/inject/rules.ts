// What may happen besides an error with the call's own errno: the ways round, and the documented codes.

import { documentedCodes } from './documented-codes.js';
import type { Rule } from './rule.js';

export const rules: readonly Rule[] = [
  // Ways round.
  { calls: /./, errnos: /^EINTR$/, survives: true, why: 'interrupted: tried again' },
  { calls: /^close$/, survives: true, why: 'close(2) frees the number whatever it reports' },
  { calls: /^accept4$/, errnos: /^ECONNABORTED$/, survives: true, why: 'a client that went: the next one' },
  {
    calls: /^(sendmsg|recvmsg)$/,
    errnos: /^ECONNRESET$/,
    form: 'once',
    survives: true,
    why: 'said once: tried again',
  },
  { calls: /^DMA_BUF_IOCTL_SYNC$/, errnos: /^EAGAIN$/, survives: true, why: 'SYNC is repeated on EAGAIN' },
  {
    calls: /^BPF_PROG_LOAD$/,
    errnos: /^EAGAIN$/,
    form: 'once',
    survives: true,
    why: 'the verifier was interrupted',
  },
  {
    calls: /^(sendmsg|recvmsg|accept4|connect)$/,
    errnos: /^EAGAIN$/,
    survives: true,
    why: 'nothing there yet: waited for',
  },
  {
    calls: /^(sendmsg|recvmsg|accept4|connect)$/,
    errnos: /^EAGAIN$/,
    form: 'from then on',
    code: /^(ETIMEDOUT|ERR_DMABUF_CLOSED) /,
    why: "waited for, until the script's own limit",
  },
  {
    calls: /^readlink$/,
    scripts:
      /^(DmaHeap\.open|allocate(Sync)? from (a heap|udmabuf|any)|allocate, large|DmaBuf\.fromMemfd( of (pieces|a Memfd))?|DmaBufPool\.acquire)$/,
    survives: true,
    why: 'without sysfs a device is taken for what its place says until it refuses',
  },
  {
    calls: /^statx$/,
    scripts:
      /^(DmaHeap\.open|allocate(Sync)? from (a heap|udmabuf|any)|allocate, large|DmaBuf\.fromMemfd( of (pieces|a Memfd))?|DmaBufPool\.acquire)$/,
    survives: true,
    why: 'what cannot be looked at before it is opened is looked at then',
  },
  {
    calls: /^readlink$/,
    scripts:
      /^SyncFile\.|^DmaBuf\.importSyncFile$|^DmaBufChannel\.(send|receive)|^FdStream(\.(send|receive)| as a Duplex)/,
    survives: true,
    why: 'without procfs the file itself is asked whether it is a sync_file',
  },
  {
    calls: /^(clone|waitpid|close_range)$/,
    scripts:
      /^(readFdInfo|snapshot|watch|registerMetrics|pinSync|examine$|(DmaBuf|FdStream)Server (at a path|over a dead one|where a file is)$)/,
    survives: true,
    why: 'the watched thread looks itself; a process that was waited for already has ended; it keeps the table of descriptors',
  },
  {
    calls: /^(fchdir|openat|read)$/,
    scripts: /^readFdInfo of another process$/,
    errnos: /^(ENOENT|ESRCH)$/,
    code: /^ENOENT open$/,
    why: 'gone meanwhile',
  },
  {
    calls: /^(openat|fstat|fchdir)$/,
    scripts: /^(DmaBuf|FdStream)Server (at a path|over a dead one|where a file is)$/,
    code: /^[A-Z]+ (open|bind|connect)$/,
    why: 'opening the path is one step, whatever it consists of',
  },
  {
    calls: /^openat$/,
    errnos: /^ENOENT$/,
    scripts: /^DmaBufServer (over a dead one|where a file is)$/,
    survives: true,
    why: 'a file that was there before is taken for gone, and bind(2) finds it',
  },
  {
    calls: /^write$/,
    scripts: /^(DmaBuf|FdStream)Server at a path$/,
    survives: true,
    why: 'nobody was told that the path was looked up: seen a second later',
  },
  { calls: /^setsockopt SO_SNDBUFFORCE$/, survives: true, why: 'SO_SNDBUF does where it may' },
  {
    calls: /^sysinfo$/,
    scripts: /^(allocate|examine$)/,
    survives: true,
    why: 'without a figure there is no memory guard',
  },
  {
    calls: /^SYNC_IOC_FILE_INFO$/,
    errnos: /^EINVAL$/,
    form: 'once',
    survives: true,
    why: 'asked again how many there are',
  },
  {
    calls: /^munmap$/,
    scripts: /^DmaBuf\.release$/,
    survives: true,
    why: 'tried again when the room that was kept back for it is given up',
  },
  {
    calls: /^mmap over anonymous$/,
    scripts: /^(DmaBufMapping\.unmap|DmaBuf\.close( with mappings)?)$/,
    survives: true,
    why: 'room that was kept back for the limit on mappings',
  },
  // A look that fails keeps nothing from closing.
  {
    calls: /^(fstat|fstatfs|SYNC_IOC_FILE_INFO)$/,
    scripts:
      /^(DmaHeap|DmaBuf|SyncFile|DmaBufChannel|DmaBufServer|FdStream|FdStreamServer)\.close|^DmaBufChannel, the end$/,
    last: 1,
    survives: true,
    why: 'closed without the look at what it is',
  },
  {
    calls: /^fstat$/,
    scripts: /^allocate(Sync)? from a heap$|^allocate, large$/,
    last: 1,
    survives: true,
    why: 'the heap is closed without the look at what it is',
  },
  {
    calls: /^fstat$/,
    scripts: /^DmaBufServer (over a dead one|where a file is)$/,
    last: 1,
    survives: true,
    why: 'the lock of the folder is closed without the look at what it is',
  },
  {
    calls: /^(fstat|SYNC_IOC_FILE_INFO)$/,
    scripts: /^SyncFile\.mergeAsync/,
    last: 2,
    survives: true,
    why: 'the two halves are closed without the look at what they are',
  },
  {
    calls: /^fstatfs$/,
    scripts: /^DmaBufPool\.(trim|close)$/,
    survives: true,
    why: 'an idle buffer is closed without the look at what it is',
  },
  {
    calls: /^(statx|fstatfs)$/,
    scripts:
      /^closeHandles|^DmaBufChannel(\.close|, the end$|\.receive, waiting$)|^DmaBufServer(\.close| over a dead one)$|^FdStream(\.close|\.receive, waiting$| as a Duplex$)|^FdStreamServer\.close$/,
    survives: true,
    why: 'what was received is closed by the thread for files that nobody knows',
  },
  {
    calls: /^eventfd$/,
    errnos: /^E[MN]FILE$/,
    scripts: /wait|busy|^FdStream as a Duplex$|^(DmaBuf|FdStream)Server at a path$/,
    survives: true,
    why: 'what cannot be duplicated is waited for by itself',
  },
  {
    calls: /^(fstat|open|read)$/,
    scripts: /^openHandles$/,
    survives: true,
    why: 'a description lacks what could not be read',
  },
  {
    calls: /^(fstat|fstatfs|open|read|SYNC_IOC_FILE_INFO)$/,
    scripts: / as JSON$/,
    survives: 'differently',
    why: 'a description lacks what could not be read',
  },
  {
    calls: /^fstat$/,
    scripts: / as JSON$/,
    survives: true,
    why: 'whether the number is still its own is not known then',
  },
  {
    calls: /^(fstat|poll|DMA_BUF_IOCTL_SYNC)$/,
    scripts: /^DmaBufPool(\.acquire|, zeroing| with a busy buffer)$/,
    survives: true,
    why: 'a buffer that cannot be looked at or cleared is closed, and another takes its place',
  },
  {
    calls: /^(eventfd|uv_poll_init|dup3|epoll_ctl ADD)$/,
    scripts: /^DmaBufPool with a busy buffer$/,
    survives: true,
    why: 'a buffer that cannot be waited for is closed, and another takes its place',
  },
  {
    calls: /^(open|fstat|fcntl F_DUPFD_CLOEXEC|DMA_HEAP_IOCTL_ALLOC)$/,
    errnos: /^(?!EMFILE|ENFILE)/,
    scripts: /^allocate(Sync)? from any$/,
    survives: true,
    why: 'the next source of memory',
  },
  {
    calls: /^(bind|listen)$/,
    errnos: /^EADDRINUSE$/,
    form: 'once',
    scripts: /^(DmaBuf|FdStream)Server (at a path|over|where)/,
    survives: true,
    why: 'nobody listens there after all: tried again',
  },
  {
    calls: /^bind$/,
    errnos: /^EADDRINUSE$/,
    scripts: /^DmaBufServer where a file is$/,
    survives: true,
    why: 'which is what the script looks for',
  },
  {
    calls: /^bind$/,
    errnos: /^ENOENT$/,
    form: 'once',
    last: 1,
    scripts: /^DmaBufServer over a dead one$/,
    survives: true,
    why: 'somebody else has taken the dead file away: tried again',
  },
  {
    calls: /^(connect|open)$/,
    errnos: /^ENOENT$/,
    form: 'from then on',
    scripts: /^DmaBufServer over a dead one$/,
    code: /^EADDRINUSE bind$/,
    why: 'the dead file, or its folder, is said to be gone, and bind(2) finds it each time',
  },
  {
    calls: /^connect$/,
    errnos: /^(ECONNREFUSED|EACCES|ENOENT)$/,
    scripts: /^DmaBufServer over a dead one$/,
    survives: true,
    why: 'which means that nobody listens there, or is found out in another way',
  },
  {
    calls: /^open$/,
    errnos: /^(EACCES|ENOENT)$/,
    scripts: /^DmaBufServer over a dead one$/,
    survives: true,
    why: 'a folder that may not be listed cannot be locked, and one that is gone is looked for again',
  },
  {
    calls: /^(statx|fstatfs|SYNC_IOC_FILE_INFO)$/,
    scripts:
      /^DmaBufChannel\.(send|receive)|^FdStream(\.(send|receive)| as a Duplex)|^(DmaBuf|FdStream)Server (at|with)/,
    survives: 'differently',
    mentions: 'number',
    why: 'a file that cannot be looked at arrives by its number',
  },
  {
    calls: /^statx$/,
    scripts: /^(importFrom|DmaBuf\.(import|importFrom|adopt|isDmaBuf|importSyncFile))$/,
    errnos: /^EACCES$/,
    survives: 'differently',
    code: /^ERR_DMABUF_NOT_DMABUF /,
    why: "so does somebody else's FUSE refuse to be looked at, which a dma-buf never does",
  },
  {
    calls: /^setsockopt SO_OOBINLINE$/,
    survives: true,
    why: 'it only matters for peers that send out of band',
  },
  {
    calls: /^setsockopt SO_TIMESTAMPNS$/,
    survives: true,
    why: 'without a mark on messages, the end is told from an empty one by other means',
  },
  {
    calls: /^(getrlimit|statx)$/,
    scripts:
      /^DmaBufChannel(\.(send|receive|close)|, iterated$|, the end$)|^FdStream(\.(send|receive|close)| as a Duplex)|^(DmaBuf|FdStream)Server (at|with)/,
    survives: true,
    why: 'without the figure, no number is taken to be free',
  },
  {
    calls: /^DMA_BUF_IOCTL_SYNC$/,
    scripts: /whose function throws$/,
    survives: true,
    why: "the function's own error is what counts",
  },
  {
    calls: /^(shutdown|recvmsg, peeking)$/,
    scripts: /^(DmaBufChannel|DmaBufServer|FdStream|FdStreamServer)(\.close|, the end| as a Duplex)/,
    survives: true,
    why: 'what cannot be received before a socket is closed, the kernel closes',
  },
  {
    calls: /^(recvmsg|accept4)$/,
    scripts: /^(DmaBufChannel|DmaBufServer|FdStream|FdStreamServer)\.close/,
    survives: true,
    why: 'what cannot be received before a socket is closed, the kernel closes',
  },
  {
    calls: /^pthread_create$/,
    scripts:
      /^closeHandles|^(DmaBufChannel|DmaBufServer|FdStream|FdStreamServer)\.close|^DmaBufChannel\.(send|receive), waiting$/,
    survives: true,
    why: 'closed with the next that is',
  },
  ...documentedCodes,
];
