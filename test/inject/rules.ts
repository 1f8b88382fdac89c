// What may happen besides an error with the call's own errno: the ways round, and the documented codes.

/** A permission; every condition that it has must hold. */
export interface Rule {
  /** The call, by its label. */
  readonly calls: RegExp;
  readonly scripts?: RegExp;
  readonly errnos?: RegExp;
  readonly form?: 'once' | 'from then on';
  /** It is one of so many that the script makes last. */
  readonly last?: number;
  /** The script ends as ever, in the same error too; or ends well, with another result. */
  readonly survives?: true | 'differently';
  /** The result then names the errno, or this. */
  readonly mentions?: true | string;
  /** The error's code and call, with a space between. */
  readonly code?: RegExp;
  readonly why: string;
}

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
      /^(DmaHeap\.open|allocate(Sync)? from (a heap|udmabuf|any)|allocate, large|DmaBuf\.fromMemfd( of pieces)?|DmaBufPool\.acquire)$/,
    survives: true,
    why: 'without sysfs a device is taken for what its place says until it refuses',
  },
  {
    calls: /^statx$/,
    scripts:
      /^(DmaHeap\.open|allocate(Sync)? from (a heap|udmabuf|any)|allocate, large|DmaBuf\.fromMemfd( of pieces)?|DmaBufPool\.acquire)$/,
    survives: true,
    why: 'what cannot be looked at before it is opened is looked at then',
  },
  {
    calls: /^readlink$/,
    scripts: /^SyncFile\.|^DmaBuf\.importSyncFile$|^DmaBufChannel\.(send|receive)/,
    survives: true,
    why: 'without procfs the file itself is asked whether it is a sync_file',
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
    calls: /^(fstat|SYNC_IOC_FILE_INFO)$/,
    scripts: /^(DmaHeap|DmaBuf|SyncFile|DmaBufChannel|DmaBufServer)\.close|^DmaBufChannel, the end$/,
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
    scripts: /^closeHandles|^DmaBufChannel(\.close|, the end$|\.receive, waiting$)|^DmaBufServer\.close$/,
    survives: true,
    why: 'what was received is closed by the thread for files that nobody knows',
  },
  {
    calls: /^fcntl F_DUPFD_CLOEXEC$/,
    errnos: /^E[MN]FILE$/,
    scripts: /wait|busy/,
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
    calls: /^(epoll_create1|uv_poll_init|fcntl F_DUPFD_CLOEXEC|epoll_ctl ADD)$/,
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
    scripts: /^DmaBufServer (at a path|over|where)/,
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
    scripts: /^DmaBufChannel\.(send|receive)|^DmaBufServer (at|with)/,
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
    calls: /^setsockopt SO_TIMESTAMPNS$/,
    survives: true,
    why: 'without a mark on messages, the end is told from an empty one by other means',
  },
  {
    calls: /^(getrlimit|statx)$/,
    scripts: /^DmaBufChannel(\.(send|receive|close)|, iterated$|, the end$)|^DmaBufServer (at|with)/,
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
    scripts: /^DmaBuf(Channel|Server)(\.close|, the end)/,
    survives: true,
    why: 'what cannot be received before a socket is closed, the kernel closes',
  },
  {
    calls: /^(recvmsg|accept4)$/,
    scripts: /^DmaBuf(Channel|Server)\.close/,
    survives: true,
    why: 'what cannot be received before a socket is closed, the kernel closes',
  },
  {
    calls: /^pthread_create$/,
    scripts: /^closeHandles|^DmaBuf(Channel|Server)\.close/,
    survives: true,
    why: 'closed with the next that is',
  },
  // Documented codes.
  {
    calls: /^(DMA_BUF_IOCTL_(EX|IM)PORT_SYNC_FILE|SYNC_IOC_SET_DEADLINE)$/,
    errnos: /^ENOTTY$/,
    code: /^ERR_DMABUF_UNSUPPORTED_KERNEL /,
    why: 'a kernel that does not know the call',
  },
  {
    calls: /^pidfd_/,
    errnos: /^ENOSYS$/,
    code: /^ERR_DMABUF_UNSUPPORTED_KERNEL pidfd_/,
    why: 'a kernel that does not know the call',
  },
  {
    calls: /^SYNC_IOC_FILE_INFO$/,
    scripts: /^SyncFile.(import|adopt)$/,
    errnos: /^EINVAL$/,
    code: /^ENOTTY SYNC_IOC_FILE_INFO$/,
    why: 'so do epolls refuse it: no sync_file',
  },
  {
    calls: /^statx$/,
    scripts: /^SyncFile.(import|adopt)$/,
    errnos: /^EACCES$/,
    code: /^ENOTTY SYNC_IOC_FILE_INFO$/,
    why: "so does somebody else's FUSE refuse to be looked at, which a sync_file never does",
  },
  {
    calls: /^fcntl F_GET_SEALS$/,
    errnos: /^EINVAL$/,
    code: /^EINVAL UDMABUF_CREATE$/,
    why: 'no memfd, which is what the request to the device would be refused for',
  },
  {
    calls: /^flock$/,
    errnos: /^EAGAIN$/,
    survives: true,
    why: "another user's, or nobody's whom one could see",
  },
  {
    calls: /^(bind|listen|connect)$/,
    errnos: /^(EADDRINUSE|EPERM|EPROTOTYPE)$/,
    scripts: /^DmaBufServer/,
    code: /^EADDRINUSE bind$/,
    why: 'somebody is there, of whatever kind',
  },
  {
    calls: /^stat$/,
    scripts: /BPF|pinSync/,
    code: /^ERR_DMABUF_UNSUPPORTED_KERNEL pid_namespaces$/,
    why: 'who cannot see the PID namespace may be in another',
  },
  // Inspection says what it could not see.
  {
    calls: /^openat$/,
    scripts: /^(un)?pinSync/,
    errnos: /^EIO$/,
    code: /^(EPROTO openat|EEXIST BPF_OBJ_PIN|ENOTEMPTY rmdir)$/,
    why: 'so does a BPF file system refuse to open what is no iterator, and nothing else',
  },
  {
    calls: /^openat$/,
    scripts: /^(un)?pinSync/,
    errnos: /^ENOENT$/,
    code: /^ENOTEMPTY unlinkat$/,
    why: 'gone while it was looked at, and there again when its folder was to go',
  },
  {
    calls: /^BPF_OBJ_PIN$/,
    scripts: /^(un)?pinSync/,
    errnos: /^EEXIST$/,
    form: 'once',
    survives: true,
    why: 'what a pin that was interrupted has left is removed first',
  },
  {
    calls: /^read$/,
    scripts: /^unpinSync$/,
    errnos: /^EAGAIN$/,
    form: 'once',
    survives: true,
    why: 'an iterator is asked again',
  },
  {
    calls: /^(openat|getdents64|readlinkat|read|statx|pthread_create)$/,
    scripts: /^registerMetrics$/,
    survives: 'differently',
    mentions: 'unreadable_processes 1',
    why: 'counted in unreadable_processes',
  },
  {
    calls: /^(getdents64|statx)$/,
    scripts: /^(snapshot of this process|watch|registerMetrics)$/,
    survives: true,
    why: "another process's, which was not asked for",
  },
  {
    calls: /^getdents64$/,
    scripts: /^snapshot by procfs$/,
    survives: true,
    why: "a kernel thread's, which holds nothing",
  },
  {
    calls: /^(BPF_PROG_LOAD|BPF_LINK_CREATE|BPF_ITER_CREATE|read|pthread_create)$/,
    scripts: /^(un)?pinSync/,
    survives: 'differently',
    mentions: true,
    why: 'what is pinned instead of loaded, and the refusal in attempts',
  },
  {
    calls: /^stat$/,
    scripts: /^(snapshot (by any|with devices)$|pinSync)/,
    survives: 'differently',
    mentions: 'ERR_DMABUF_UNSUPPORTED_KERNEL',
    why: 'who cannot see the PID namespace may be in another, as attempts says',
  },
  {
    calls: /^(openat|read|readlinkat)$/,
    scripts: /^(snapshot|watch|registerMetrics|pinSync|examine$)/,
    survives: true,
    why: "a process's name, or another way to the same",
  },
  {
    calls: /^open$/,
    scripts: /^(snapshot (by procfs|of this process|by any|with devices)|watch|registerMetrics)$/,
    survives: true,
    why: 'whether /proc hides anything is not known then',
  },
  {
    calls: /^(openat|readlinkat|statx|read|getdents64|pthread_create)$/,
    scripts: /^(snapshot (by procfs|of this process|by any|with devices)|watch)$/,
    survives: 'differently',
    mentions: true,
    why: 'counted in unreadable, or in attempts',
  },
  {
    calls: /^(BPF_\w+|open|fstat|fstatfs)$/,
    scripts: /^snapshot (by any|with devices)$/,
    survives: 'differently',
    mentions: true,
    why: 'the next source, and the refusal in attempts',
  },
  {
    calls: /^(stat|fstat|fstatfs|openat|pthread_create)$/,
    scripts: /^snapshot (by any|with devices)$/,
    form: 'once',
    survives: true,
    why: 'what fails for buffers and holders is tried for the buffers alone',
  },
  {
    calls: /^(openat|readlinkat|statx|read|getdents64)$/,
    scripts: /^(snapshot (by procfs|of this process)|watch|registerMetrics)$/,
    errnos: /^(ENOENT|ESRCH)$/,
    survives: 'differently',
    why: 'gone meanwhile',
  },
  {
    calls: /./,
    scripts: /^examine$/,
    survives: 'differently',
    mentions: true,
    why: 'a finding with the errno, never an error',
  },
  {
    calls: /^(openat|readlinkat|statx|read|getdents64)$/,
    scripts: /^examine$/,
    survives: 'differently',
    mentions: 'of the visible processes may not be read',
    why: 'counted in a finding',
  },
  {
    calls: /^(open|stat|fstat|pthread_create)$/,
    scripts: /^examine$/,
    last: 1,
    survives: true,
    why: 'what may be pinned makes no finding where BPF can be loaded',
  },
  {
    calls: /^(readlinkat|statx|getdents64)$/,
    scripts: /^examine$/,
    errnos: /^(ENOENT|ESRCH)$/,
    survives: true,
    why: 'gone meanwhile',
  },
  {
    calls: /^stat$/,
    scripts: /^examine$/,
    survives: 'differently',
    mentions: 'ERR_DMABUF_UNSUPPORTED_KERNEL',
    why: 'who cannot see the PID namespace may be in another, as a finding says',
  },
];
