import { isMainThread } from 'node:worker_threads';
import { createError } from './errors.js';
import { loadAddon } from './load-addon.js';

/** The number of an open file in the addon's table. */
export type Slot = number;

/**
 * Where in `registers` a call leaves what it returns beside its value: the same names and numbers as in
 * native/js/registers.h. None is used for two things.
 */
export const Register = {
  fd: 0,
  inode: 1,
  size: 2,
  references: 3,
  flags: 4,
  mode: 5,
  mapping: 6,
  mappings: 7,
  mostMappings: 8,
  keptFree: 9,
  addressSpace: 10,
  mostAddressSpace: 11,
  status: 12,
  fenceCount: 13,
  failure: 14,
  firstEnd: 15,
  secondEnd: 16,
  isLookup: 17,
  pid: 18,
  uid: 19,
  gid: 20,
  handleCount: 21,
  messageLength: 22,
  totalMemory: 23,
  availableMemory: 24,
  fileCache: 25,
  cmaTotal: 26,
  cmaFree: 27,
  leftMemory: 28,
  reservedMemory: 29,
  settledMemory: 30,
  fences: 32,
  handles: 48,
} as const;

/** Where in `unclaimed` a descriptor is that was yielded alone, or as the second of a pair. */
export const Yielded = { only: 0, second: 1 } as const;

/** What a look at the system has found (native/os/survey.h), in rows. Strings are absent where nothing is known. */
export interface RawSurvey {
  /** inode, size, references or -1, index of the exporter or -1, 1 where the size is a lower bound + 2 where it is gone */
  buffers: Float64Array;
  /** Of each buffer. */
  names: readonly (string | undefined)[];
  exporters: readonly string[];
  /** index of the buffer, index of the process, descriptors, mappings */
  holdings: Float64Array;
  pids: Float64Array;
  /** Of each process; '' where it could not be read. */
  commands: readonly string[];
  /** pid, negative errno, 1 for the descriptors or 2 for the mappings */
  refusals: Float64Array;
}

type SurveyDone = (surveyOrErrno: RawSurvey | number, syscall: string | undefined) => void;

/**
 * What the addon exports (native/addon.cc, the tables in native/js). Functions throw DmaBufError. Further
 * results, in brackets here, are left in `registers`, valid until the next call.
 */
export interface Native {
  readonly path: string;
  readonly registers: Float64Array;
  /** The same memory, for 64 bits as they are. */
  readonly registerBits: BigUint64Array;
  /**
   * What was yielded last, by its place in a message or as {@link Yielded} says; what is claimed becomes 0. The addon closes
   * what has not been claimed when it yields the next: nobody else knows of it where making its object has failed.
   */
  readonly unclaimed: Float64Array;
  readonly pageSize: number;
  setErrorFactory(factory: typeof createError): void;
  /** Called when no thread could be made for what waits to be closed. */
  setClosersTimer(awaitClosers: () => void): void;
  /** Whether there still is none. */
  startClosers(): boolean;
  /** This is a worker: what receive() and createMemfd() give it to close is closed when it ends. */
  setWorker(): void;

  openHeap(path: string): Slot;
  /**
   * What stays the same only while the path leads to the same folder, and no name has come to it or gone: '' where there is
   * none. Undefined where that cannot be told, for one because it was changed just now.
   */
  stampOfFolder(path: string): string | undefined;
  /** Whether the path still leads to this heap, and this process may still open it. */
  isHeapAt(heap: Slot, path: string): boolean;
  allocateSync(heap: Slot, size: number, accessMode: number): Slot;
  allocateAsync(
    heap: Slot,
    size: number,
    accessMode: number,
    done: (slotOrErrno: number, syscall: string | undefined) => void,
  ): void;

  importFd(fd: number, take: boolean): Slot;
  isDmaBuf(fd: number): boolean;
  /** Throws unless the descriptor still refers to the file that it was taken for. */
  verify(slot: Slot): void;
  /** [fd], [inode], [size] in bytes. From now on others may hold the file. */
  describe(slot: Slot): void;
  /** The same of a buffer, without the fd: what nobody was told is nobody else's. */
  measure(slot: Slot): void;
  /** Closes, and lets go of the mappings; or throws and stays open. True for a buffer that was lost. */
  close(slot: Slot): true | undefined;
  /** Whether an access to a mapping of the buffer was answered with SIGBUS. */
  isLost(slot: Slot): boolean;
  /** Closes, and leaves the mappings to whoever still holds their ArrayBuffers. */
  abandon(slot: Slot): void;
  release(slot: Slot): number;
  duplicate(slot: Slot): Slot;
  /**
   * Every open handle as three numbers: its slot, its kind (native/js/handles.h) and how many mappings it has. Returns
   * how many there are, even where `numbers` has no room for all.
   */
  listHandles(numbers: Float64Array): number;
  setName(slot: Slot, name: string): void;
  beginCpuAccess(slot: Slot, direction: number): void;
  /** False, and nothing has begun, while fences have not signalled: never waits for them. */
  tryBeginCpuAccess(slot: Slot, direction: number): boolean;
  endCpuAccess(slot: Slot, direction: number): void;

  /** [mapping]: its id */
  map(slot: Slot, writable: boolean, offset: number, length: number): ArrayBuffer;
  unmap(slot: Slot, id: number): void;
  isMapped(slot: Slot, id: number): boolean;
  /** What V8 takes the memory outside of its heap to be, more by so many bytes, or less. */
  adjustExternalMemory(bytes: number): void;
  /** [mappings], [mostMappings], [keptFree]; [addressSpace] and [mostAddressSpace] in bytes; each -1 where there is none */
  mappingLimits(): void;
  mapWhole(slot: Slot): ArrayBuffer;
  /** True, and nothing was copied, while fences have not signalled: never waits for them. */
  read(slot: Slot, target: Uint8Array, position: number, length: number): true | undefined;
  /** The same. */
  write(slot: Slot, source: Uint8Array, position: number): true | undefined;

  isReady(slot: Slot, direction: number): boolean;
  /** Calls `done` once, with 0 or a negative errno. A pending wait keeps the event loop alive. */
  poll(slot: Slot, direction: number, done: (errno: number) => void): number;
  cancelPoll(wait: number): void;
  /** Has a thread wait instead of the event loop, from the first wait on. */
  waitOnThread(): void;
  /** A slot, or -1 where it is no sync_file's. */
  importSyncFileFd(fd: number, take: boolean): Slot;
  exportSyncFile(buffer: Slot, direction: number): Slot;
  importSyncFile(buffer: Slot, file: Slot, direction: number): void;
  /** 1 signalled, 0 active, negative errno */
  syncFileStatus(slot: Slot): number;
  /**
   * The name, then every fence's timeline and driver, separated by NUL; [status] of all, [fenceCount],
   * [fences] = of every fence the status and the timestamp, as the bits of a BigUint64. The name only where there are more
   * than the registers hold.
   */
  syncFileInfo(slot: Slot): string;
  /** The same with room for many fences' numbers. */
  syncFileInfoOfMany(slot: Slot, numbers: Float64Array): string;
  /** Two or more; [failure] = the negative errno of a fence that has ended in error, else 0 */
  mergeSyncFiles(name: string, slots: Float64Array): Slot;
  /** The same on the thread pool, with copies of their descriptors. */
  mergeSyncFilesAsync(
    name: string,
    slots: Float64Array,
    done: (slotOrErrno: number, syscall: string | undefined) => void,
  ): void;
  setDeadline(slot: Slot, deadline: bigint): void;

  /** [firstEnd], [secondEnd] = the slots */
  createChannelPair(): void;
  /**
   * A slot, or -EAGAIN while the server's queue is full. `address`: a path's bytes, or NUL and an abstract name. Where
   * [isLookup] is 1, the path is still being looked up: `poll()` says when that is over, and `close()` gives it up.
   */
  connect(address: Uint8Array): Slot;
  /** What `connect()` returns, after such a lookup, whose slot is given up then. */
  finishConnecting(lookup: Slot): Slot;
  /** 1: it waits for a thread, while all that there may be are kept waiting by other lookups. 2: it is over. Else 0. */
  connectingState(lookup: Slot): number;
  /** Leaves the descriptor's flags as they are. */
  adoptChannel(fd: number): Slot;
  markCloseOnExec(channel: Slot): void;
  /** A folder. This and the next look up paths: `ETIMEDOUT` after `patience` milliseconds, `EBUSY` where no thread is left. */
  openPlace(path: string, patience: number): Slot;
  /** A file in it, links not followed. [mode] = st_mode, [uid] = its user */
  openInPlace(folder: Slot, name: string, patience: number): Slot;
  removeInPlace(folder: Slot, name: string, patience: number): void;
  changeMode(file: Slot, mode: number, patience: number): void;
  /** Whether a socket is bound to the file; it does not notice. */
  isSocketAlive(file: Slot, patience: number): boolean;
  /** A slot that keeps a folder locked until it is closed, or -EAGAIN while somebody else keeps it locked. */
  lockPlace(folder: Slot, patience: number): Slot;
  listenInPlace(folder: Slot, address: Uint8Array, mode: number, patience: number): Slot;
  /** The same by a socket that does not keep messages apart. */
  listenToStreamsInPlace(folder: Slot, address: Uint8Array, mode: number, patience: number): Slot;
  /** Remembers where the server's file is, by a copy of its folder's descriptor. */
  keepPlace(server: Slot, folder: Slot, file: Slot, name: string): void;
  /** Removes that file, and no other. What is not over after so many milliseconds goes on without anybody. */
  removeSocket(server: Slot, patience: number): void;
  /** At an abstract name, which is no path. */
  listen(address: Uint8Array, mode: number): Slot;
  /** A slot, or -EAGAIN when nobody waits. */
  accept(server: Slot): Slot;
  /** [pid], [uid], [gid] */
  describePeer(channel: Slot): void;
  /** Sets the largest message that is sent, unless `bytes` is 0; returns what it is. */
  limitMessages(channel: Slot, bytes: number): number;
  /** 0, or -EAGAIN when the socket is full. [handles] = of each whether it is in a slot, then that or a descriptor. */
  send(channel: Slot, data: Uint8Array, count: number): number;
  /** Closes so many numbers of descriptors; what may keep it waiting, on another thread. */
  closeNumbers(numbers: Float64Array, count: number): void;
  /** A copy of a slot's descriptor, or of any other, for `send()`. */
  hold(channel: Slot, isSlot: boolean, slotOrFd: number): Slot;
  /** Copies the bytes of the message that has been received, as many as there is room for. */
  takeMessage(data: Uint8Array): void;
  /**
   * The length of the next message, [handleCount] of its handles, [handles] = what each is (0 any other descriptor, 1 a
   * dma-buf, 2 a sync_file), then the descriptor or slot. Or: -1 nothing there, -2 the peer is gone, -3 the message of
   * [messageLength] bytes did not fit, -4 only [handleCount] descriptors could be received, -5 a message is being thrown
   * away: ask again later, -6 nothing more is received from this peer.
   */
  receive(channel: Slot, capacity: number): number;
  importFromProcess(pid: number, fd: number): Slot;

  /** A sealed memfd: its slot when it is to be `owned`, else its descriptor. `hugePageSize` 0 for ordinary pages */
  createMemfd(name: string, size: number, hugePageSize: number, owned: boolean): Slot | number;
  /** F_GET_SEALS; [size] in bytes */
  seals(fd: number): number;
  /** `pieces`: the descriptor of a memfd, offset and size of each */
  createUdmabuf(device: string, pieces: Float64Array): Slot;
  createUdmabufAsync(
    device: string,
    pieces: Float64Array,
    done: (slotOrErrno: number, syscall: string | undefined) => void,
  ): void;

  /** The exporter, and the name if any; [inode], [size], [references], [flags] */
  info(slot: Slot): [string, string?];
  parseFdInfo(text: Uint8Array): [string, string?] | undefined;
  readFdInfo(pid: number, fd: number): [string, string?] | undefined;

  /**
   * Looks through /proc, at all processes. Where a command is `vagueCommand`, which tells nothing of the program, the name of
   * the program's file takes its place.
   */
  scanProcesses(vagueCommand: string, done: SurveyDone): void;
  /** Reads the BPF iterators, pinned in `folder` (an absolute path), or loaded where it is ''. */
  surveyBpf(folder: string, buffers: boolean, holders: boolean, vagueCommand: string, done: SurveyDone): void;
  /** The whole of a file. Node's own readFile() keeps it open for ever when a worker ends meanwhile. */
  readWhole(path: string, done: (contentOrErrno: Buffer | number, syscall: string | undefined) => void): void;
  /** Pins the iterators in the folder; `gid` 2^32 - 1 leaves the group. Returns their paths. */
  pinIterators(folder: string, holders: boolean, mode: number, gid: number): string[];
  /** Removes them, and the folder when nothing is left in it. Returns the names of what is left. */
  unpinIterators(folder: string): string[];

  /** Bytes, by sysinfo(2). [totalMemory] */
  freeMemory(): number;
  /** [availableMemory], [fileCache], [cmaTotal], [cmaFree], in bytes; 0 where it is not counted */
  availableMemory(): void;
  /** Bytes of requests that have ended, of all threads of this process; of those that control groups count, or of all. */
  settledMemory(isGroups: boolean): number;
  /**
   * Reserves memory for the next call that allocates, until that has ended, if so many bytes are left of `available`, which
   * was counted after so many had `settled`. Where they are not: [leftMemory], [reservedMemory] of requests on their
   * way, [settledMemory] by now
   */
  admitMemory(isGroups: boolean, size: number, available: number, settled: number): boolean;
  /** The same, whether they are left or not. */
  reserveMemory(size: number, isCharged: boolean): void;
  /** There is no such call after all. */
  forgoMemory(): void;
}

/**
 * Whether the event loop cannot be asked to wait for descriptors: Bun ends the process when it is, and Deno at its end.
 * For the tests, also where `DMABUF_TEST_WAITING` says so.
 */
function mustWaitOnThread(): boolean {
  const { versions, env } = process;
  return versions.bun !== undefined || versions.deno !== undefined || env.DMABUF_TEST_WAITING === 'thread';
}

/** Tries every now and then to have the threads that could not be made. It keeps no process alive. */
function awaitClosers(loaded: Native): void {
  const timer = setInterval(() => {
    if (!loaded.startClosers()) clearInterval(timer);
  }, 50);
  timer.unref();
}

/**
 * The addon of this environment. Importing the package loads nothing: the first use does, or throws an error that says why
 * it cannot. Until then a stand-in is here, whose place the addon takes.
 */
export let native: Native = new Proxy({} as Native, {
  get: (_standIn, name: keyof Native) => {
    const loaded = loadAddon() as Native;
    loaded.setErrorFactory(createError);
    loaded.setClosersTimer(() => awaitClosers(loaded));
    if (mustWaitOnThread()) loaded.waitOnThread();
    if (!isMainThread) loaded.setWorker();
    native = loaded;
    return loaded[name];
  },
});
