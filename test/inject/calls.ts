// The system calls that can be made to fail: what they are called, in errors and here, and with which errnos they may fail.

import { constants } from 'node:os';

/** A call as inject.cc tells them apart. */
export interface Call {
  /** The C library's function. */
  readonly function: string;
  /** What it was asked for. */
  readonly detail: number;
}

const ioctls: Readonly<Record<number, string>> = {
  3222816768: 'DMA_HEAP_IOCTL_ALLOC',
  1074291200: 'DMA_BUF_IOCTL_SYNC',
  1074029057: 'DMA_BUF_SET_NAME',
  1074291201: 'DMA_BUF_SET_NAME',
  3221774850: 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE',
  1074291203: 'DMA_BUF_IOCTL_IMPORT_SYNC_FILE',
  3224387075: 'SYNC_IOC_MERGE',
  3224911364: 'SYNC_IOC_FILE_INFO',
  1074806277: 'SYNC_IOC_SET_DEADLINE',
  1075344706: 'UDMABUF_CREATE',
  1074296131: 'UDMABUF_CREATE_LIST',
};

const commands: Readonly<Record<number, string>> = {
  0: 'F_DUPFD',
  1: 'F_GETFD',
  2: 'F_SETFD',
  3: 'F_GETFL',
  4: 'F_SETFL',
  1030: 'F_DUPFD_CLOEXEC',
  1033: 'F_ADD_SEALS',
  1034: 'F_GET_SEALS',
};

const socketOptions: Readonly<Record<number, string>> = {
  3: 'SO_TYPE',
  7: 'SO_SNDBUF',
  13: 'SO_LINGER',
  16: 'SO_PASSCRED',
  17: 'SO_PEERCRED',
  32: 'SO_SNDBUFFORCE',
  35: 'SO_TIMESTAMPNS',
  39: 'SO_DOMAIN',
};

const bpfCommands: Readonly<Record<number, string>> = {
  5: 'BPF_PROG_LOAD',
  6: 'BPF_OBJ_PIN',
  7: 'BPF_OBJ_GET',
  15: 'BPF_OBJ_GET_INFO_BY_FD',
  28: 'BPF_LINK_CREATE',
  33: 'BPF_ITER_CREATE',
};

/** Numbers of syscall(2). */
const numbers: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  x64: {
    5: 'fstat',
    217: 'getdents64',
    321: 'bpf',
    332: 'statx',
    434: 'pidfd_open',
    436: 'close_range',
    438: 'pidfd_getfd',
    186: 'gettid',
  },
  arm64: {
    80: 'fstat',
    61: 'getdents64',
    280: 'bpf',
    291: 'statx',
    434: 'pidfd_open',
    436: 'close_range',
    438: 'pidfd_getfd',
    178: 'gettid',
  },
};

/** What functions that are no system calls do in the kernel. */
const underneath: Readonly<Record<string, string>> = {
  fdopendir: 'openat',
  readdir: 'getdents64',
  uv_thread_create: 'pthread_create',
  uv_async_init: 'eventfd',
};

const hexadecimal = (number: number): string => `0x${number.toString(16)}`;

/** The call by the name that errors have for it, and by what it was asked for where they do not say. */
export function namesOf({ function: name, detail }: Call): { syscall: string; label: string } {
  const named = (table: Readonly<Record<number, string>>): string => table[detail] ?? hexadecimal(detail);
  const number = detail % 2 ** 32;
  switch (name) {
    case 'ioctl':
      return { syscall: named(ioctls), label: named(ioctls) };
    case 'fcntl':
      return { syscall: name, label: `fcntl ${named(commands)}` };
    case 'getsockopt':
    case 'setsockopt':
      return { syscall: name, label: `${name} ${named(socketOptions)}` };
    case 'syscall': {
      const what = numbers[process.arch]?.[number] ?? `syscall ${number}`;
      if (what !== 'bpf') return { syscall: what, label: what };
      const command = bpfCommands[Math.floor(detail / 2 ** 32)] ?? `bpf ${Math.floor(detail / 2 ** 32)}`;
      return { syscall: command, label: command };
    }
    case 'mmap':
      return { syscall: name, label: detail === 1 ? 'mmap' : `mmap${detail & 2 ? ' over' : ''} anonymous` };
    case 'epoll_ctl':
      return { syscall: name, label: `epoll_ctl ${['', 'ADD', 'DEL', 'MOD'][detail]}` };
    case 'recvmsg':
      return { syscall: name, label: detail === 0 ? name : 'recvmsg, peeking' };
    default:
      return { syscall: underneath[name] ?? name, label: name };
  }
}

const opening = 'EACCES EMFILE ENFILE ENOENT ENOMEM EINTR EPERM EIO';
const asking = 'EIO ENOMEM';

/**
 * By label: the errnos that the kernel has for the call here, or that an exporter, a server or a limit can cause. Not EBADF,
 * nor ENOTTY from a sync_file: who is told that a number stands for something else which does not can only leak it.
 */
const errnos: Readonly<Record<string, string>> = {
  DMA_HEAP_IOCTL_ALLOC: 'ENOMEM EINTR EMFILE EINVAL ENOTTY EPERM',
  DMA_BUF_IOCTL_SYNC: 'EINTR EAGAIN EIO EINVAL ENODEV ENOMEM',
  DMA_BUF_SET_NAME: 'ENOMEM EINVAL EINTR EBUSY',
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE: 'ENOMEM EMFILE EINTR ENOTTY EINVAL',
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE: 'ENOMEM EINVAL EINTR ENOTTY',
  SYNC_IOC_MERGE: 'ENOMEM EMFILE EINTR ENOENT ENOTTY',
  SYNC_IOC_FILE_INFO: 'ENOMEM EINVAL EINTR EIO',
  SYNC_IOC_SET_DEADLINE: 'EINVAL EINTR ENOTTY',
  UDMABUF_CREATE: 'ENOMEM EINVAL EMFILE EBADFD EINTR',
  UDMABUF_CREATE_LIST: 'ENOMEM EINVAL EMFILE EBADFD EINTR',
  'fcntl F_DUPFD_CLOEXEC': 'EMFILE EINVAL',
  'fcntl F_ADD_SEALS': 'EPERM EBUSY EINVAL',
  'fcntl F_GET_SEALS': 'EINVAL',
  'fcntl F_SETFL': 'EPERM',
  // Of a number that is open they succeed.
  'fcntl F_GETFL': '',
  'fcntl F_GETFD': '',
  'fcntl F_SETFD': '',
  mmap: 'ENOMEM EACCES EINVAL ENODEV EAGAIN EPERM',
  'mmap anonymous': 'ENOMEM',
  'mmap over anonymous': 'ENOMEM',
  munmap: 'ENOMEM',
  mprotect: 'ENOMEM',
  madvise: 'ENOMEM EINVAL',
  memfd_create: 'EMFILE ENFILE ENOMEM ENOSYS',
  ftruncate: 'EINTR ENOMEM ENOSPC',
  poll: 'ENOMEM EINTR',
  fstat: asking,
  fstatfs: `${asking} EINTR ENOSYS`,
  stat: 'ENOENT EACCES EIO',
  statx: 'EACCES ENOENT EIO ENOMEM ESTALE',
  faccessat: 'EACCES EPERM ENOENT EIO ENOMEM',
  readlink: 'ENOENT EACCES EIO ENOMEM',
  readlinkat: 'ENOENT EACCES EIO ENOMEM',
  open: opening,
  openat: `${opening} ESRCH`,
  read: 'EIO EINTR EAGAIN ENOMEM ESRCH',
  getdents64: 'EIO EINTR ENOENT ENOMEM',
  sendmsg: 'ENOMEM ENOBUFS EPIPE ECONNRESET EAGAIN EINTR EMSGSIZE ETOOMANYREFS',
  recvmsg: 'ENOMEM EINTR EAGAIN ECONNRESET',
  'recvmsg, peeking': 'ENOMEM EINTR EAGAIN',
  socket: 'EMFILE ENFILE ENOMEM ENOBUFS',
  socketpair: 'EMFILE ENFILE ENOMEM ENOBUFS',
  bind: 'EADDRINUSE EACCES ENOMEM ENOENT EROFS',
  listen: 'EADDRINUSE ENOMEM',
  connect: 'ECONNREFUSED EAGAIN EINTR EACCES EPERM ENOENT EPROTOTYPE ENOMEM',
  accept4: 'EMFILE ENFILE ENOBUFS ENOMEM ECONNABORTED EINTR EAGAIN EPERM',
  getsockopt: 'ENOBUFS ENOPROTOOPT',
  setsockopt: 'EPERM ENOMEM',
  // Where seccomp forbids it.
  getrlimit: 'EPERM',
  shutdown: 'ENOTCONN ENOBUFS',
  recv: 'ENOMEM EINTR EAGAIN',
  getpeername: 'ENOTCONN ENOBUFS',
  eventfd: 'EMFILE ENFILE ENOMEM',
  dup3: 'EBUSY',
  flock: 'EINTR EAGAIN ENOLCK',
  fchmod: 'EPERM EROFS EIO',
  fchown: 'EPERM EROFS EIO',
  sysinfo: 'EFAULT',
  pidfd_open: 'ESRCH EMFILE EINVAL ENOSYS',
  pidfd_getfd: 'EPERM EMFILE ESRCH ENOSYS',
  BPF_PROG_LOAD: 'EPERM EINVAL ENOMEM EAGAIN E2BIG EACCES ENOSYS EINTR',
  BPF_LINK_CREATE: 'EPERM ENOMEM EMFILE EINVAL',
  BPF_ITER_CREATE: 'EMFILE ENOMEM EPERM',
  BPF_OBJ_PIN: 'EEXIST EPERM ENOSPC ENOMEM',
  BPF_OBJ_GET: 'ENOENT EACCES EPERM EMFILE',
  pthread_create: 'EAGAIN',
  clone: 'EAGAIN ENOMEM EPERM',
  waitpid: 'ECHILD',
  fchdir: 'EACCES EPERM ESRCH',
  close_range: 'ENOSYS EPERM',
  uv_poll_init: 'ENOMEM ENOSPC EPERM',
  // What has been initialised is started.
  uv_poll_start: '',
  gettid: '',
  epoll_create1: 'EMFILE ENFILE ENOMEM',
  'epoll_ctl ADD': 'ENOMEM ENOSPC',
  epoll_ctl: '',
  epoll_wait: 'EINTR',
  mkdirat: 'EACCES EPERM EROFS ENOSPC ENOMEM',
  renameat: 'EACCES EPERM ENOENT ENOMEM',
  unlinkat: 'EACCES EPERM ENOMEM',
  fdopendir: 'ENOMEM',
  readdir: 'EIO ENOMEM',
  uv_thread_create: 'EAGAIN',
  uv_async_init: 'EMFILE ENFILE',
  close: 'EIO EINTR',
};

/** Numbers that Node has no name for. */
const others: Readonly<Record<string, number>> = { EBADFD: 77, ETOOMANYREFS: 109, ENOTBLK: 15 };

/** The errno by its name. */
export function nameOf(number: number): string {
  const known = Object.entries({ ...constants.errno, ...others }).find(([, value]) => value === number);
  return known?.[0] ?? `errno ${number}`;
}

export function numberOf(errno: string): number {
  const number = (constants.errno as Record<string, number>)[errno] ?? others[errno];
  if (number === undefined) throw new Error(`${errno} has no number here`);
  return number;
}

/** The errnos to try; those of a call that nobody has thought of yet are what any call may have. */
export function errnosOf(call: Call): readonly string[] {
  const { label } = namesOf(call);
  return (errnos[label] ?? errnos[call.function] ?? 'EIO ENOMEM EINTR').split(' ').filter(Boolean);
}

/** What fails: the n-th of all calls of a kind that a script makes, once or it and all that follow. */
export interface Injection extends Call {
  readonly nth: number;
  /** How many of the kind the script makes when nothing fails. */
  readonly of: number;
  /** Of an allocation, what the kernel made of its failure: empty where it has coped, or before it is tried. */
  readonly errno: string;
  readonly form: 'once' | 'from then on';
  /** The call is made, and in it the kernel's n-th allocation fails. */
  readonly allocation?: number;
}

/** Whether an errno means "again": nobody gets it for ever, but a few times in a row. */
function isPassing({ errno, ...call }: Injection): boolean {
  if (errno === 'EINTR' || errno === 'ECONNABORTED') return true;
  return errno === 'EAGAIN' && namesOf(call).label === 'DMA_BUF_IOCTL_SYNC';
}

/** How often in a row. */
export function timesOf(injection: Injection): number {
  // Room is kept back for munmap(2), and given up when it fails (native/os/mapping_room.cc).
  if (injection.form === 'once' || injection.function === 'munmap') return 1;
  return isPassing(injection) ? 20 : 2 ** 32 - 1;
}
