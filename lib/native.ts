import { isMainThread } from 'node:worker_threads';
import { createError } from './errors.js';
import { loadAddon } from './load-addon.js';

/** The number of an open file in the addon's table. */
export type Slot = number;

/**
 * Where in `registers` a call leaves what it returns in addition to its value: the same names and numbers as in
 * native/js/registers.h. No register has two meanings.
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

/** The position in `unclaimed` of a descriptor that was yielded alone, or as the second of a pair. */
export const Yielded = { only: 0, second: 1 } as const;

/** The result of a survey of the system (native/os/survey.h), in rows. Strings are absent if unknown. */
export interface RawSurvey {
  /** inode, size, references or -1, index of the exporter or -1, 1 if the size is a lower bound + 2 if the buffer is gone */
  buffers: Float64Array;
  /** Of each buffer. */
  names: readonly (string | undefined)[];
  exporters: readonly string[];
  /** index of the buffer, index of the process, descriptors, mappings */
  holdings: Float64Array;
  pids: Float64Array;
  /** Of each process; '' if it could not be read. */
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
   * The slots that were yielded last, by their position in a message or as {@link Yielded} says; a slot that is claimed
   * becomes 0. When the addon yields the next ones, it closes those that were not claimed: if the creation of an object
   * failed, nothing else knows its slot.
   */
  readonly unclaimed: Float64Array;
  readonly pageSize: number;
  setErrorFactory(factory: typeof createError): void;
  /** Called when no thread could be created for descriptors that wait to be closed. */
  setClosersTimer(awaitClosers: () => void): void;
  /** Tries again to create one; returns whether there still is none. */
  startClosers(): boolean;
  /** Says that this is a worker: when it ends, the numbers that receive() and createMemfd() returned to it are closed. */
  setWorker(): void;

  openHeap(path: string): Slot;
  allocateSync(heap: Slot, size: number, accessMode: number): Slot;
  allocateAsync(
    heap: Slot,
    size: number,
    accessMode: number,
    done: (slotOrErrno: number, syscall: string | undefined) => void,
  ): void;

  importFd(fd: number, take: boolean): Slot;
  isDmaBuf(fd: number): boolean;
  /** Throws unless the descriptor still refers to the same file as at first. */
  verify(slot: Slot): void;
  /** [fd], [inode], [size] in bytes. From now on other processes may hold the file. */
  describe(slot: Slot): void;
  /** The same for a buffer, without the fd: a number that was not returned cannot have been passed on. */
  measure(slot: Slot): void;
  /** Closes, and replaces the mappings; or throws and stays open. True for a buffer that was lost. */
  close(slot: Slot): true | undefined;
  /** Whether an access to a mapping of the buffer was answered with SIGBUS. */
  isLost(slot: Slot): boolean;
  /** Closes, and leaves the mappings to the code that still holds their ArrayBuffers. */
  abandon(slot: Slot): void;
  release(slot: Slot): number;
  duplicate(slot: Slot): Slot;
  /**
   * Every open handle as three numbers: its slot, its kind (native/js/handles.h) and how many mappings it has. Returns
   * how many there are, even if `numbers` has no room for all.
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
  /** [mappings], [mostMappings], [keptFree]; [addressSpace] and [mostAddressSpace] in bytes; each -1 if there is none */
  mappingLimits(): void;
  mapWhole(slot: Slot): ArrayBuffer;
  /** True, and nothing was copied, while fences have not signalled: never waits for them. */
  read(slot: Slot, target: Uint8Array, position: number, length: number): true | undefined;
  /** The same. */
  write(slot: Slot, source: Uint8Array, position: number): true | undefined;

  /**
   * Pixels as red, green, blue and alpha. `plan`: x, y, width, height, the model and the matrix (native/os/pixels.h), then of
   * each component what PixelComponent there has.
   */
  toRgba(source: Uint8Array, plan: Float64Array, target: Uint8Array): void;

  isReady(slot: Slot, direction: number): boolean;
  /**
   * Calls `done` once, with 0 or a negative errno. A wait that is `kept` calls it in every turn of the event loop in which
   * the file is ready, until it is cancelled or has called with an errno. A pending wait keeps the event loop alive.
   */
  poll(slot: Slot, direction: number, done: (errno: number) => void, kept: boolean): number;
  cancelPoll(wait: number): void;
  /** Makes a thread wait instead of the event loop, from the first wait on. */
  waitOnThread(): void;
  /** A slot, or -1 if the descriptor is not a sync_file's. */
  importSyncFileFd(fd: number, take: boolean): Slot;
  exportSyncFile(buffer: Slot, direction: number): Slot;
  importSyncFile(buffer: Slot, file: Slot, direction: number): void;
  /** 1 signalled, 0 active, negative errno */
  syncFileStatus(slot: Slot): number;
  /**
   * The name, then every fence's timeline and driver, separated by NUL; [status] of all, [fenceCount], [fences] = of
   * every fence the status and the timestamp, as the bits of a BigUint64. Only the name if there are more than the
   * registers have room for.
   */
  syncFileInfo(slot: Slot): string;
  /** The same with room for the numbers of many fences. */
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
   * A slot, or -EAGAIN while the server's queue is full. `address`: a path's bytes, or NUL and an abstract name. If
   * [isLookup] is 1, the path is still being looked up: `poll()` says when that is done, and `close()` gives it up.
   */
  connect(address: Uint8Array, isStream: boolean): Slot;
  /** What `connect()` returns, after such a lookup, whose slot becomes free. */
  finishConnecting(lookup: Slot): Slot;
  /** 1: it waits for a thread, since other lookups occupy all. 2: it is done. Else 0. */
  connectingState(lookup: Slot): number;
  /** Leaves the descriptor's flags as they are. */
  adoptChannel(fd: number): Slot;
  markCloseOnExec(socket: Slot): void;
  /** A folder. This and the next look up paths: `ETIMEDOUT` after `patience` milliseconds, `EBUSY` if no thread is free. */
  openPlace(path: string, patience: number): Slot;
  /** A file in it, links not followed. [mode] = st_mode, [uid] = its user */
  openInPlace(folder: Slot, name: string, patience: number): Slot;
  removeInPlace(folder: Slot, name: string, patience: number): void;
  changeMode(file: Slot, mode: number, patience: number): void;
  /** Whether a socket is bound to the file; the socket does not notice the check. */
  isSocketAlive(file: Slot, patience: number): boolean;
  /** A slot that keeps a folder locked until it is closed, or -EAGAIN while another process keeps it locked. */
  lockPlace(folder: Slot, patience: number): Slot;
  listenInPlace(folder: Slot, address: Uint8Array, mode: number, patience: number): Slot;
  /** The same with a stream socket. */
  listenToStreamsInPlace(folder: Slot, address: Uint8Array, mode: number, patience: number): Slot;
  /** Remembers where the server's file is, by a copy of its folder's descriptor. */
  keepPlace(server: Slot, folder: Slot, file: Slot, name: string): void;
  /** Removes that file, and no other. A removal that takes longer than so many milliseconds continues in the background. */
  removeSocket(server: Slot, patience: number): void;
  /** At an abstract name, which is not a path. */
  listen(address: Uint8Array, mode: number): Slot;
  /** The same, by a socket that does not keep messages apart. */
  listenToStreams(address: Uint8Array, mode: number): Slot;
  /** A slot, or -EAGAIN when no connection waits. */
  accept(server: Slot): Slot;
  /** [pid], [uid], [gid] */
  describePeer(end: Slot): void;
  /** Sets the largest message that is sent, unless `bytes` is 0; returns what it is. */
  limitMessages(channel: Slot, bytes: number): number;
  /**
   * The number of bytes that were sent, or -EAGAIN when the socket is full. [handles] = for each whether it is a slot, then
   * the slot or descriptor.
   */
  send(end: Slot, data: Uint8Array, count: number): number;
  /** Closes so many descriptors by their numbers; another thread closes those that may block. */
  closeNumbers(numbers: Float64Array, count: number): void;
  /** A copy of a slot's descriptor, or of any other, for `send()`. */
  hold(end: Slot, isSlot: boolean, slotOrFd: number): Slot;
  /** Copies the bytes of the received message, as far as there is room. */
  takeMessage(data: Uint8Array): void;
  /**
   * The length of the next message, [handleCount] of its handles, [handles] = what each is (0 any other descriptor, 1 a
   * dma-buf, 2 a sync_file), then the descriptor or slot. Or: -1 there is no message, -2 the peer is gone, -3 the message
   * of [messageLength] bytes did not fit, -4 only [handleCount] descriptors could be received, -5 a message is being
   * dropped: try again later, -6 nothing more is received from this peer.
   */
  receive(channel: Slot, capacity: number): number;
  importFromProcess(pid: number, fd: number): Slot;

  /** [firstEnd], [secondEnd] = the slots */
  createStreamPair(): void;
  /** Leaves the descriptor's flags as they are. */
  adoptStream(fd: number): Slot;
  /** The same for a listening socket, of which other processes may have copies. */
  adoptStreamServer(fd: number): Slot;
  /** A path, NUL and an abstract name, or ''. */
  addressOfServer(server: Slot): string;
  /**
   * What `receive()` returns, for the next bytes. `how`: 0 keeps the [handleCount] descriptors that came with them for
   * `takeArrival()`; 1 yields them as `receive()` does; 2 yields only numbers. With `EMFILE`, nothing was received, because
   * there are not enough free numbers for the descriptors. -4: descriptors were lost.
   */
  receiveBytes(stream: Slot, capacity: number, how: number): number;
  /** The same with `how` 0; copies the bytes to `target`, as far as there is room. */
  receiveInto(stream: Slot, target: Uint8Array): number;
  /** Yields the first of the kept descriptors as `receive()` does. False if there is none. */
  takeArrival(stream: Slot, recognise: boolean): boolean;
  /** Sends nothing more: the peer sees the end. */
  endBytes(stream: Slot): void;

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
   * Reads /proc for all processes. If a command is `vagueCommand`, which does not identify the program, the name of the
   * program's file replaces it.
   */
  scanProcesses(vagueCommand: string, done: SurveyDone): void;
  /** Reads the BPF iterators, pinned in `folder` (an absolute path), or loaded if it is ''. */
  surveyBpf(folder: string, buffers: boolean, holders: boolean, vagueCommand: string, done: SurveyDone): void;
  /** The whole of a file. Node's own readFile() never closes the file when a worker ends meanwhile. */
  readWhole(path: string, done: (contentOrErrno: Buffer | number, syscall: string | undefined) => void): void;
  /** Pins the iterators in the folder; `gid` 2^32 - 1 leaves the group. Returns their paths. */
  pinIterators(folder: string, holders: boolean, mode: number, gid: number): string[];
  /** Removes them, and the folder when nothing is left in it. Returns the names of the files that are left. */
  unpinIterators(folder: string): string[];

  /** Bytes, by sysinfo(2). [totalMemory] */
  freeMemory(): number;
  /** [availableMemory], [fileCache], [cmaTotal], [cmaFree], in bytes; 0 if it is not counted */
  availableMemory(): void;
  /** Bytes of the requests that have ended, of all threads of this process: of those that control groups count, or of all. */
  settledMemory(isGroups: boolean): number;
  /**
   * Reserves memory for the next call that allocates, until that has ended, if so many bytes are left of `available`,
   * which was counted after so many had `settled`. If they are not: [leftMemory], [reservedMemory] of pending requests,
   * [settledMemory] by now
   */
  admitMemory(isGroups: boolean, size: number, available: number, settled: number): boolean;
  /** The same, even if they are not left. */
  reserveMemory(size: number, isCharged: boolean): void;
  /** Takes the reservation back, since the call was not made. */
  forgoMemory(): void;
}

/**
 * Whether the event loop cannot wait for descriptors: Bun ends the process immediately in that case, and Deno when it
 * ends. `DMABUF_TEST_WAITING` also sets this, for tests.
 */
function mustWaitOnThread(): boolean {
  const { versions, env } = process;
  return versions.bun !== undefined || versions.deno !== undefined || env.DMABUF_TEST_WAITING === 'thread';
}

/** Tries at intervals to create the threads that could not be created. This does not keep the process alive. */
function awaitClosers(loaded: Native): void {
  const timer = setInterval(() => {
    if (!loaded.startClosers()) clearInterval(timer);
  }, 50);
  timer.unref();
}

/**
 * The addon of this environment. Importing the package loads nothing: the first use loads the addon, or throws an error
 * that says why it cannot. Until then a placeholder is here, which the addon replaces.
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
