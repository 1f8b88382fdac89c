// The public types as a user's project sees them: compiled, never run (scripts/check.mjs). Every export is used.

import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import {
  type Access,
  type AccessTrace,
  type AllocateOptions,
  type AllocateTrace,
  type AllocationAttempt,
  allocate,
  allocateSync,
  type BufferOptions,
  type BufferStreamOptions,
  type ChannelMessage,
  type ChannelOptions,
  type ConnectOptions,
  CpuAccess,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  DmaBufError,
  type DmaBufErrorDetails,
  type DmaBufInfo,
  DmaBufMapping,
  DmaBufPool,
  DmaBufServer,
  DmaHeap,
  FdStream,
  type FdStreamOptions,
  type FdStreamServer,
  type FenceInfo,
  type FenceStatus,
  type FrameConnection,
  type FramePolicy,
  FrameReceiver,
  FrameSender,
  type FrameSenderOptions,
  type FrameStatistics,
  type HandleType,
  type HeapInfo,
  type HeapKind,
  type importFrom,
  type MapOptions,
  Memfd,
  type MemfdOptions,
  type MemfdRange,
  type OpenHandle,
  type openHandles,
  type PeerCredentials,
  PooledBuffer,
  type PoolOptions,
  type PoolStatistics,
  type ReceivedFrame,
  type Sendable,
  type SendFrameOptions,
  type SendTrace,
  type SentFrame,
  type ServerOptions,
  type Source,
  SyncFile,
  type SyncFileInfo,
  setHandleTracking,
  type TextOptions,
  type WaitOptions,
  type WaitTrace,
} from 'dmabuf';
import {
  type BufferLayout,
  type FrameLayout,
  type FramePlane,
  frameOf,
  type LayoutOptions,
  layoutOf,
  type NativePixmap,
  type NativePixmapPlane,
  type PlaneLayout,
  type Rectangle,
  type RgbaOptions,
  toNativePixmap,
  toRgba,
} from 'dmabuf/frame';
import {
  type BufferChange,
  type BufferHolder,
  type BufferUsage,
  diff,
  type ExporterUsage,
  examine,
  type Finding,
  type DmaBufInfo as InspectedInfo,
  type PinOptions,
  type ProcessChange,
  type ProcessUsage,
  type parseFdInfo,
  pinSync,
  type readFdInfo,
  type Snapshot,
  type SnapshotDiff,
  type SnapshotOptions,
  type SnapshotSource,
  type SourceAttempt,
  snapshot,
  type Unreadable,
  unpinSync,
  type WatchOptions,
  watch,
} from 'dmabuf/inspect';
import { type DmaBufMetrics, type MetricsOptions, registerMetrics } from 'dmabuf/metrics';
import {
  type Accelerator,
  type GuestTestsOptions,
  type KernelRun,
  type KernelsOptions,
  runInVm,
  runOnKernels,
  type Splat,
  testInVm,
  VmError,
  type VmErrorCode,
  type VmOptions,
  type VmResult,
} from 'dmabuf/vm';
import { Registry } from 'prom-client';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_equal: Equal<A, B>): void {}

same<Access, 'read' | 'write' | 'read-write'>(true);
same<DmaBufInfo, InspectedInfo>(true);
same<ReturnType<typeof allocateSync>, DmaBuf>(true);
same<ReturnType<typeof allocate>, Promise<DmaBuf>>(true);
same<ReturnType<typeof DmaHeap.list>, HeapInfo[]>(true);
same<ReturnType<typeof parseFdInfo>, DmaBufInfo | undefined>(true);
same<ReturnType<typeof readFdInfo>, DmaBufInfo | undefined>(true);
same<ReturnType<typeof importFrom>, DmaBuf>(true);
same<ReturnType<typeof openHandles>, OpenHandle[]>(true);
same<
  HandleType,
  | 'DmaBuf'
  | 'DmaHeap'
  | 'SyncFile'
  | 'DmaBufChannel'
  | 'DmaBufServer'
  | 'Memfd'
  | 'FdStream'
  | 'FdStreamServer'
>(true);
same<FenceStatus, 'active' | 'signaled' | 'error'>(true);
same<SnapshotSource, 'procfs' | 'bpf' | 'debugfs' | 'sysfs'>(true);
same<Accelerator, 'auto' | 'tcg' | 'kvm'>(true);
same<ReturnType<typeof watch>, AsyncGenerator<Snapshot, void, undefined>>(true);
same<ReturnType<typeof runInVm>, Promise<VmResult>>(true);
same<Sendable, DmaBuf | SyncFile | number>(true);
same<ReturnType<DmaBufChannel['receive']>, Promise<ChannelMessage | undefined>>(true);
same<ReturnType<FdStream['receive']>, Promise<ChannelMessage | undefined>>(true);
same<ReturnType<FdStream['takeHandle']>, Sendable | undefined>(true);
same<HeapInfo['kind'], HeapKind>(true);
same<HeapKind, 'system' | 'cma' | 'protected' | 'shared' | 'unknown'>(true);

export function register(options: MetricsOptions): void {
  using metrics: DmaBufMetrics = registerMetrics({
    ...options,
    prefix: 'gpu_',
    processes: 5,
    source: 'auto',
    register: new Registry(),
    onError: (error: unknown) => console.error(error),
  });
  metrics.unregister();
  // @ts-expect-error A registry is not a name.
  registerMetrics({ register: 'default' });
  // @ts-expect-error Devices cost too much to be asked for at every scrape.
  registerMetrics({ devices: true });
}

export async function use(signal: AbortSignal): Promise<number> {
  using heap: DmaHeap = DmaHeap.open('system');
  const options: BufferOptions = { name: 'frame', access: 'read-write', unchecked: false };
  const sources: readonly Source[] = ['cma', heap, 'system', '/dev/dma_heap/system'];
  const request: AllocateOptions = { ...options, from: sources };

  using one = await heap.allocate(4096, { ...options, signal });
  using two = await allocate(4096, { ...request, signal });
  using three = allocateSync(4096, request);
  using four: Disposable = heap.allocateSync(4096);

  const range: MapOptions = { access: 'read', offset: 0, length: 4096, faultOnWrite: true };
  const part: TextOptions = { position: 0, length: 5, encoding: 'latin1' };
  const text: string = one.text(part);
  using mapping: DmaBufMapping = one.map(range);
  const memory: ArrayBuffer = mapping.buffer;
  using access: CpuAccess = two.cpuAccessSync('write');
  access.bytes.set(mapping.bytes);
  const first: number | undefined = three.withCpuAccessSync('read', (bytes) => bytes[0]);
  const info: DmaBufInfo = one.info();
  const name: string | undefined = info.name;
  one.setName(name ?? 'frame');
  const copied: number = one.read(new DataView(memory), 0) + one.write(Buffer.alloc(16), 0);
  using copy: DmaBuf = DmaBuf.import(one.dup().release());
  const source: string | undefined = two.source;

  // @ts-expect-error The constructor is private.
  new DmaBuf();
  // @ts-expect-error An access is one of three words.
  one.cpuAccessSync('readwrite');
  // @ts-expect-error The descriptor is lent, not assignable.
  one.fd = 3;
  // @ts-expect-error Booleans are options, not positions.
  heap.allocateSync(4096, true);
  // @ts-expect-error A size is a number.
  await allocate('4096');
  // @ts-expect-error Nothing is synchronous that can be aborted.
  allocateSync(4096, { signal });
  // @ts-expect-error An option that does not exist.
  one.map({ writable: true });

  const vm: VmOptions = {
    command: ['true'],
    env: { CI: '1', HOME: undefined },
    output: 'results',
    network: true,
    devices: ['virtio-gpu-pci'],
    machine: ['q35'],
    screendump: 'screen.png',
    kernelLog: process.stderr,
  };
  const { exitCode, splats }: VmResult = await runInVm(vm);
  const faults: readonly Splat[] = splats;
  const { kernel: _kernel, ...rest } = vm;
  const several: KernelsOptions = { ...rest, kernels: ['stable', 'newest'], jobs: 1 };
  const [run]: KernelRun[] = await runOnKernels(several);
  const tests: GuestTestsOptions = {
    files: ['heap.test.js'],
    nodeOptions: ['--expose-gc'],
    kernel: 'stable',
  };
  test('in a guest', (t) => testInVm(t, tests));
  // @ts-expect-error Test files are named, and no command.
  test('in a guest', (t) => testInVm(t, { command: ['true'] }));
  // @ts-expect-error Several kernels are named by kernels.
  await runOnKernels({ command: ['true'], kernel: 'newest' });
  // @ts-expect-error There is nothing to run.
  await runInVm({ kernel: 'newest' });
  // @ts-expect-error A command is a list: no shell takes it apart.
  await runInVm({ command: 'true' });
  return (
    text.length +
    faults.length +
    copied +
    copy.fd +
    (first ?? 0) +
    (source?.length ?? 0) +
    exitCode +
    (run?.duration ?? 0) +
    Number(four !== undefined)
  );
}

export async function wait(buffer: DmaBuf, options: WaitOptions): Promise<bigint | undefined> {
  const ready: boolean = buffer.isReady('read');
  await buffer.ready(ready ? 'write' : 'read', options);
  using access: CpuAccess = await buffer.cpuAccess('read', options);
  const length: number = await buffer.withCpuAccess('write', async (bytes) => bytes.length, options);
  using fences: SyncFile = buffer.exportSyncFile('write');
  using merged = SyncFile.merge('both', fences, fences.dup());
  await merged.wait({ timeout: length });
  (await SyncFile.mergeAsync('many', [fences, merged], { signal: AbortSignal.timeout(length) })).close();
  merged.setDeadline(process.hrtime.bigint());
  const info: SyncFileInfo = merged.info();
  buffer.importSyncFile(merged, access.access);
  const poolOptions: PoolOptions = { from: ['cma', 'udmabuf'], max: 2, zero: true };
  using pool = new DmaBufPool(4096, poolOptions);
  using loan: PooledBuffer = await pool.acquire(options);
  const classes = [loan instanceof PooledBuffer, access instanceof CpuAccess, DmaBufMapping, DmaBufServer];
  const statistics: PoolStatistics = pool.statistics();
  const memfdOptions: MemfdOptions = { name: 'frames' };
  const range: MemfdRange = { offset: 0, size: 4096 };
  using pages = DmaBuf.fromMemfd(createMemfd(8192, memfdOptions), [range]);
  using memfd = Memfd.create(8192, memfdOptions);
  using _whole = DmaBuf.fromMemfd(memfd, { ...range, memfd });
  const fence: FenceInfo | undefined = info.fences[0];
  // @ts-expect-error A timeout is a number of milliseconds.
  await merged.wait({ timeout: '1s' });
  // @ts-expect-error Two at least are merged.
  SyncFile.merge('both', fences);
  // @ts-expect-error A loan is given back by itself, not to the pool.
  pool.release(loan);
  same<typeof merged.status, 'active' | 'signaled' | 'error'>(true);
  return loan.buffer.size + classes.length > statistics.inUse + pages.size ? fence?.timestamp : undefined;
}

export function explain(error: unknown): string | undefined {
  if (!(error instanceof DmaBufError)) return undefined;
  const attempts: AllocationAttempt[] = error.attempts ?? [];
  const errno: number | undefined = error.errno;
  const details: DmaBufErrorDetails = { code: error.code, errno, path: error.path };
  // @ts-expect-error Details have a code.
  new DmaBufError('without a code', {});
  const vmCode: VmErrorCode | undefined = error.cause instanceof VmError ? error.cause.code : undefined;
  return [
    details.code,
    vmCode,
    errno,
    error.syscall,
    error.path,
    ...attempts.map(({ source }) => source),
  ].join(' ');
}

export async function share(buffer: DmaBuf, file: SyncFile, signal: AbortSignal): Promise<void> {
  setHandleTracking(true);
  const limits: ChannelOptions = { maxMessageSize: 4096 };
  const serverOptions: ServerOptions = { mode: 0o660 };
  using server: DmaBufServer = DmaBufChannel.listen('/tmp/x.sock', { ...serverOptions, ...limits });
  using client = await DmaBufChannel.connect(server.path, { signal, timeout: 1000 });
  const [here, there] = DmaBufChannel.pair(limits);
  await here.send('text', [buffer, file, 0]);
  await here.send(new Uint8Array(1));
  await here.send(new Uint8Array(1), [], { signal });
  const message = await there.receive({ timeout: 1 });
  using disposed: ChannelMessage | undefined = await there.receive();
  const received: DmaBuf[] | undefined = disposed?.buffers;
  received?.pop()?.close();
  if (message) closeHandles(message.handles);
  // @ts-expect-error Handles are sent in a list.
  await here.send('text', buffer);
  // @ts-expect-error A port is not a path.
  DmaBufChannel.listen(8080);
  // @ts-expect-error The constructor is private.
  new DmaBufChannel();
  for await (const { data, handles } of client) {
    const bytes: Uint8Array = data;
    const [first] = handles;
    if (first instanceof DmaBuf) first.read(bytes);
    else if (typeof first === 'number') DmaBufChannel.adopt(first).close();
  }
  for await (const channel of server) {
    const { pid, uid, gid }: PeerCredentials = channel.peer;
    console.log(pid + uid + gid, channel.release());
  }
}

export async function frames(channel: DmaBufChannel, loan: PooledBuffer, ready: SyncFile): Promise<unknown> {
  const policy: FramePolicy = 'drop-oldest';
  const options: FrameSenderOptions = { window: 2, policy };
  using sender = new FrameSender(channel, options);
  const connection: FrameConnection = sender.add(channel, { window: 1 });
  const request: SendFrameOptions = { metadata: { exposure: 1 }, ready, owner: loan, timeout: 100 };
  const sent: SentFrame = await sender.send(frameOf(loan.buffer, 'NV12', 640, 480), request);
  await sent.returned;
  const figures: FrameStatistics = sender.statistics();
  using receiver = new FrameReceiver(channel);
  const frame: ReceivedFrame | undefined = await receiver.receive({ timeout: 1 });
  for await (const { planes, metadata, missed } of receiver) {
    // @ts-expect-error Metadata come from another process, and may be anything.
    console.log(metadata.exposure, planes[0]?.buffer.size, missed);
  }
  if (frame !== undefined) toRgba(frame);
  // @ts-expect-error There is no such policy.
  sender.add(channel, { policy: 'drop' });
  return [connection.peer.pid, figures.inFlight, frame?.ready?.status, sent.sequence];
}

export function streamBytes(buffer: DmaBuf, signal: AbortSignal): void {
  const options: BufferStreamOptions = { position: 0, length: 4096, highWaterMark: 1024, signal };
  buffer.createReadStream(options).pipe(buffer.createWriteStream({ position: 4096 }));
  // @ts-expect-error These are the names of node:fs.
  buffer.createReadStream({ start: 0 });
}

export function picture(buffer: DmaBuf): number {
  const options: LayoutOptions = { strideAlign: 256, planeAlign: DmaBuf.pageSize };
  const layout: BufferLayout = layoutOf('NV12', 640, 480, options);
  const places: PlaneLayout[] = layout.planes;
  const frame: FrameLayout = frameOf(buffer, 'NV12', 640, 480, options);
  const separate: FrameLayout = frameOf([buffer, buffer.dup()], 'NV12', 640, 480);
  const [plane]: FramePlane[] = separate.planes;
  const pixmap: NativePixmap = toNativePixmap({ ...frame, modifier: 1n });
  const [first]: NativePixmapPlane[] = pixmap.planes;
  const region: Rectangle = { x: 0, y: 0, width: 1, height: 1 };
  const request: RgbaOptions = { region, matrix: 'bt709', fullRange: true };
  const pixels: Uint8Array = toRgba(frame, request);
  // @ts-expect-error A modifier has 64 bits.
  toRgba({ ...frame, modifier: 0 });
  return pixels.length + places.length + (plane?.stride ?? 0) + Number(pixmap.modifier) + (first?.fd ?? 0);
}

/** What tracing channels tell. */
export function describeTrace(trace: AllocateTrace | AccessTrace | WaitTrace | SendTrace): string {
  if (trace.operation === 'send') return `${trace.inodes.join()} to ${trace.peer.pid}: ${trace.handles}`;
  if (trace.operation === 'allocate') return `${trace.sources.join()} ${trace.result?.inode}`;
  if (trace.operation === 'read') return `${trace.access} ${trace.length} of ${trace.inode}`;
  // @ts-expect-error There is no such operation.
  if (trace.operation === 'map') return 'mapped';
  if (trace.operation === 'wait') return `${trace.name} for ${trace.timeout} ms`;
  return String(trace.error);
}

export async function stream(buffer: DmaBuf, signal: AbortSignal): Promise<void> {
  const options: FdStreamOptions = { maxHandles: 16, recognise: false, highWaterMark: 1024 };
  const patience: ConnectOptions = { retry: true, signal, timeout: 1000 };
  using server: FdStreamServer = FdStream.listen('/tmp/x.sock', { mode: 0o660, ...options });
  await using client = await FdStream.connect(server.address, { ...options, ...patience });
  const [here, there] = FdStream.pair(options);
  const asDuplex: Duplex = here;
  await here.send('text', [buffer, 0]);
  const message = await there.receive({ timeout: 1 });
  if (message) closeHandles(message.handles);
  await pipeline(client, asDuplex);
  client.on('data', (chunk: Buffer) => console.log(chunk.length, client.takeHandle()));
  const { pid }: PeerCredentials = client.peer;
  // @ts-expect-error Descriptors need a byte, which comes first.
  await here.send([buffer]);
  // @ts-expect-error The constructor is private.
  new FdStream();
  for await (const accepted of server) console.log(pid, accepted.release());
}

export async function inspect(signal: AbortSignal, former: Snapshot): Promise<number> {
  const options: SnapshotOptions = { pids: [1], source: 'bpf', devices: true };
  const now: Snapshot = await snapshot(options);
  const difference: SnapshotDiff = diff(former, now);
  const changes: [BufferChange[], ProcessChange[]] = [difference.changed, difference.grown];
  const buffer: BufferUsage | undefined = now.buffers[0];
  const holder: BufferHolder | undefined = buffer?.holders[0];
  const user: ProcessUsage | undefined = now.processes[0];
  const exporter: ExporterUsage | undefined = now.exporters[0];
  const refused: Unreadable | undefined = now.unreadable[0];
  const attempt: SourceAttempt | undefined = now.attempts[0];
  const every: WatchOptions = { ...options, interval: 1000, signal };
  for await (const { total } of watch(every)) console.log(total.size);
  const findings: Finding[] = await examine();
  const pins: PinOptions = { folder: '/sys/fs/bpf/dmabuf', mode: 0o750, holders: false };
  const pinned: string[] = pinSync(pins);
  unpinSync(pins.folder);
  // @ts-expect-error There is no such source.
  await snapshot({ source: 'proc' });
  // @ts-expect-error Snapshots are compared, not promises of them.
  diff(former, snapshot());
  // @ts-expect-error An interval is a number of milliseconds.
  watch({ interval: '1s' });
  // @ts-expect-error A mode is a number.
  pinSync({ mode: '0750' });
  console.log(holder?.fds, user?.pss, exporter?.size, refused?.error, attempt?.error.code, findings, pinned);
  return changes.length;
}
