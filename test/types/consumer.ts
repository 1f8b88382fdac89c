// The public types as a user's project sees them: compiled, never run (scripts/check.mjs).

import {
  type Access,
  type AllocateOptions,
  type AllocationAttempt,
  allocate,
  allocateSync,
  type BufferOptions,
  type ChannelMessage,
  type CpuAccess,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  DmaBufError,
  type DmaBufInfo,
  type DmaBufMapping,
  DmaBufPool,
  type DmaBufServer,
  DmaHeap,
  type HeapInfo,
  type importFrom,
  type MapOptions,
  type OpenHandle,
  type openHandles,
  type PooledBuffer,
  type PoolStatistics,
  type Sendable,
  type Source,
  SyncFile,
  type SyncFileInfo,
  setHandleTracking,
  type WaitOptions,
} from 'dmabuf';
import type { DmaBufInfo as InspectedInfo, parseFdInfo, readFdInfo } from 'dmabuf/inspect';
import { type DmaBufMetrics, type MetricsOptions, registerMetrics } from 'dmabuf/metrics';
import { runInVm, type VmOptions } from 'dmabuf/vm';

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
same<Sendable, DmaBuf | SyncFile | number>(true);
same<ReturnType<DmaBufChannel['receive']>, Promise<ChannelMessage | undefined>>(true);
same<HeapInfo['kind'], 'system' | 'cma' | 'protected' | 'shared' | 'unknown'>(true);

export function register(options: MetricsOptions): void {
  using metrics: DmaBufMetrics = registerMetrics({
    ...options,
    prefix: 'gpu_',
    processes: 5,
    source: 'auto',
  });
  metrics.unregister();
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

  const vm: VmOptions = { command: ['true'] };
  const { exitCode } = await runInVm(vm);
  return copied + copy.fd + (first ?? 0) + (source?.length ?? 0) + exitCode + Number(four !== undefined);
}

export async function wait(buffer: DmaBuf, options: WaitOptions): Promise<bigint | undefined> {
  const ready: boolean = buffer.isReady('read');
  await buffer.ready(ready ? 'write' : 'read', options);
  using access: CpuAccess = await buffer.cpuAccess('read', options);
  const length: number = await buffer.withCpuAccess('write', async (bytes) => bytes.length, options);
  using fences: SyncFile = buffer.exportSyncFile('write');
  using merged = SyncFile.merge('both', fences, fences.dup());
  await merged.wait({ timeout: length });
  merged.setDeadline(process.hrtime.bigint());
  const info: SyncFileInfo = merged.info();
  buffer.importSyncFile(merged, access.access);
  using pool = new DmaBufPool(4096, { from: ['cma', 'udmabuf'], max: 2, zero: true });
  using loan: PooledBuffer = await pool.acquire(options);
  const statistics: PoolStatistics = pool.statistics();
  using pages = DmaBuf.fromMemfd(createMemfd(8192), [{ offset: 0, size: 4096 }]);
  same<typeof merged.status, 'active' | 'signaled' | 'error'>(true);
  return loan.buffer.size + pages.size > statistics.inUse ? info.fences[0]?.timestamp : undefined;
}

export function explain(error: unknown): string | undefined {
  if (!(error instanceof DmaBufError)) return undefined;
  const attempts: AllocationAttempt[] = error.attempts ?? [];
  const errno: number | undefined = error.errno;
  return [error.code, errno, error.syscall, error.path, ...attempts.map(({ source }) => source)].join(' ');
}

export async function share(buffer: DmaBuf, file: SyncFile, signal: AbortSignal): Promise<void> {
  setHandleTracking(true);
  using server: DmaBufServer = DmaBufChannel.listen('/tmp/x.sock', { mode: 0o660, maxMessageSize: 4096 });
  using client = await DmaBufChannel.connect(server.path, { signal, timeout: 1000 });
  const [here, there] = DmaBufChannel.pair();
  await here.send('text', [buffer, file, 0]);
  await here.send(new Uint8Array(1));
  await here.send(new Uint8Array(1), [], { signal });
  const message = await there.receive({ timeout: 1 });
  if (message) closeHandles(message.handles);
  for await (const { data, handles } of client) {
    const bytes: Uint8Array = data;
    const [first] = handles;
    if (first instanceof DmaBuf) first.read(bytes);
    else if (typeof first === 'number') DmaBufChannel.adopt(first).close();
  }
  for await (const channel of server) {
    const { pid, uid, gid }: { pid: number; uid: number; gid: number } = channel.peer;
    console.log(pid + uid + gid, channel.release());
  }
}
