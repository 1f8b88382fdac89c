// What may happen besides an error with the call's own errno: the ways round, and the documented codes.

/** A permission; every condition that it has must hold. */
export interface Rule {
  /** The call, by its label. */
  readonly calls: RegExp;
  readonly scripts?: RegExp;
  readonly errnos?: RegExp;
  readonly form?: 'once' | 'from then on';
  /** The script ends as ever; or ends well, with another result. */
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
  { calls: /^readlink$/, survives: true, why: 'without sysfs a device is taken for a heap until it refuses' },
  { calls: /^setsockopt SO_SNDBUFFORCE$/, survives: true, why: 'SO_SNDBUF does where it may' },
  { calls: /^fcntl F_SETFL$/, survives: true, why: 'to restore the blocking mode is a courtesy' },
  { calls: /^sysinfo$/, survives: true, why: 'without a figure there is no memory guard' },
  {
    calls: /^SYNC_IOC_FILE_INFO$/,
    errnos: /^EINVAL$/,
    form: 'once',
    survives: true,
    why: 'asked again how many there are',
  },
  { calls: /^munmap$/, survives: true, why: 'nothing can be done about it when memory is collected' },
  {
    calls: /^mmap over anonymous$/,
    survives: true,
    why: 'room that was kept back for the limit on mappings',
  },
  {
    calls: /^(fstat|fstatfs|statx|SYNC_IOC_FILE_INFO)$/,
    scripts: /close|, the end$|waiting$|^allocate(Sync)? from a heap$/i,
    survives: true,
    why: 'a look that fails keeps nothing from closing',
  },
  {
    calls: /^fcntl F_DUPFD_CLOEXEC$/,
    errnos: /^E[MN]FILE$/,
    scripts: /wait|busy/,
    survives: true,
    why: 'what cannot be duplicated is waited for by itself',
  },
  { calls: /./, scripts: /^openHandles$/, survives: true, why: 'a description lacks what could not be read' },
  { calls: /./, scripts: /^DmaBufPool/, survives: true, why: 'another buffer in its place' },
  {
    calls: /./,
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
    scripts: /^DmaBuf(Channel|Server)/,
    survives: 'differently',
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
  { calls: /^getrlimit$/, survives: true, why: 'without a figure, no number is taken to be free' },
  {
    calls: /^DMA_BUF_IOCTL_SYNC$/,
    scripts: /whose function throws$/,
    survives: true,
    why: "the function's own error is what counts",
  },
  {
    calls: /^(shutdown|recvmsg|recvmsg, peeking|recv|accept4|poll)$/,
    scripts: /^DmaBuf(Channel|Server)(\.close|\.adopt|, the end)/,
    survives: true,
    why: 'what cannot be received before a socket is closed, the kernel closes',
  },
  {
    calls: /^pthread_create$/,
    scripts: /^(DmaBuf(Channel|Server)|closeHandles)/,
    survives: true,
    why: 'closed later',
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
    form: 'from then on',
    code: /^EADDRINUSE bind$/,
    why: 'somebody keeps the folder',
  },
  {
    calls: /^flock$/,
    errnos: /^EAGAIN$/,
    form: 'once',
    survives: true,
    why: 'somebody else was starting there',
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
    scripts: /^pinSync/,
    errnos: /^EIO$/,
    code: /^EPROTO openat$/,
    why: 'so does a BPF file system refuse to open what is no iterator',
  },
  {
    calls: /^BPF_OBJ_PIN$/,
    errnos: /^EEXIST$/,
    form: 'once',
    survives: true,
    why: 'what a pin that was interrupted has left is removed first',
  },
  {
    calls: /^(statx|pthread_create)$/,
    scripts: /^registerMetrics$/,
    survives: 'differently',
    mentions: 'unreadable_processes 1',
    why: 'counted in unreadable_processes',
  },
  {
    calls: /^(BPF_ITER_CREATE|read|pthread_create)$/,
    scripts: /^pinSync/,
    survives: 'differently',
    mentions: true,
    why: 'the next source, and the refusal in attempts',
  },
  {
    calls: /^stat$/,
    scripts: /^(snapshot (by any|with devices)$|pinSync)/,
    survives: 'differently',
    why: 'who cannot see the PID namespace may be in another, as attempts says',
  },
  {
    calls: /^(open|openat|read|readlinkat)$/,
    scripts: /^(snapshot|watch|registerMetrics|pinSync)/,
    survives: true,
    why: "a process's name, or another way to the same",
  },
  {
    calls: /^read$/,
    errnos: /^EAGAIN$/,
    scripts: /BPF|pinSync|by any|with devices/,
    form: 'once',
    survives: true,
    why: 'an iterator is asked again',
  },
  {
    calls: /^(openat|readlinkat|statx|read|getdents64|pthread_create|fstatfs)$/,
    scripts: /^(snapshot|watch)/,
    survives: 'differently',
    mentions: true,
    why: 'counted in unreadable',
  },
  {
    calls: /./,
    scripts: /^snapshot (by any|with devices)$/,
    survives: 'differently',
    mentions: true,
    why: 'the next source, and the refusal in attempts',
  },
  {
    calls: /^(open|openat|readlinkat|statx|read|getdents64)$/,
    scripts: /^(snapshot|watch|pinSync|registerMetrics)/,
    errnos: /^(ENOENT|ESRCH)$/,
    survives: 'differently',
    why: 'gone meanwhile',
  },
  { calls: /./, scripts: /^examine$/, survives: true, why: 'a finding, never an error' },
];
