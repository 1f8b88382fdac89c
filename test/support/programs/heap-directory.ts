// Runs in a mount namespace where /dev/dma_heap is an empty tmpfs, and fills it with nodes of the system heap's
// device. DMABUF_TEST_DEVICE: the device's numbers, as "major minor".

import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { allocateSync, DmaHeap, type HeapInfo } from 'dmabuf';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';

export interface OpenedHeap {
  name: string;
  path: string;
  size: number;
}

export interface HeapDirectoryReport {
  emptyList: HeapInfo[];
  openInEmpty: ReportedError;
  list: HeapInfo[];
  cma: OpenedHeap;
  olderCma: OpenedHeap;
  deviceTreeCma: OpenedHeap;
  noCma: ReportedError;
  link: OpenedHeap;
  linkByPath: OpenedHeap;
  chainSource: string | undefined;
  unknownName: ReportedError;
  notADevice: ReportedError;
  noSuchDevice: ReportedError;
  danglingLink: ReportedError;
  danglingInList: HeapInfo | undefined;
  contiguousGuard: ReportedError | { size: number };
  uncheckedGuard: { size: number };
  inaccessible: HeapInfo[];
  severalRegions: HeapInfo[];
  olderAlone: HeapInfo[];
  olderAloneByAlias: string;
}

const directory = '/dev/dma_heap';
const [major, minor] = (process.env.DMABUF_TEST_DEVICE as string).split(' ') as [string, string];

function node(name: string, device: [string, string] = [major, minor]): void {
  execFileSync('mknod', [`${directory}/${name}`, 'c', ...device]);
}

function clear(): void {
  for (const entry of readdirSync(directory)) rmSync(`${directory}/${entry}`);
}

/** Opens a heap and allocates from it. */
function use(heap: string): OpenedHeap {
  using opened = DmaHeap.open(heap);
  // The machine may have no CMA region, but for these nodes.
  using buffer = opened.allocateSync(4096, { unchecked: true });
  return { name: opened.name, path: opened.path, size: buffer.size };
}

function sizeOf(heap: string, unchecked: boolean): { size: number } {
  using buffer = allocateSync(4096, { from: heap, unchecked });
  return { size: buffer.size };
}

const observed: Partial<HeapDirectoryReport> = {};
observed.emptyList = DmaHeap.list();
observed.openInEmpty = await errorOf(() => DmaHeap.open('system'));

node('system');
observed.noCma = await errorOf(() => DmaHeap.open('cma'));
observed.unknownName = await errorOf(() => DmaHeap.open('camera'));

node('linux,cma');
observed.olderCma = use('cma');
symlinkSync('linux,cma', `${directory}/vidbuf_cached`);
observed.link = use('vidbuf_cached');
observed.linkByPath = use(`${directory}/vidbuf_cached`);
using fromLink = allocateSync(4096, { from: ['camera', 'vidbuf_cached'], unchecked: true });
observed.chainSource = fromLink.source;
try {
  observed.contiguousGuard = sizeOf('linux,cma', false);
} catch {
  observed.contiguousGuard = await errorOf(() => {
    using heap = DmaHeap.open('linux,cma');
    heap.allocateSync(4096).close();
  });
}
observed.uncheckedGuard = sizeOf('linux,cma', true);

node('default_cma_region');
observed.cma = use('cma');
node('protected,secure-video');
node('system_cc_shared');
node('system-uncached');
node('camera');
observed.list = DmaHeap.list();

clear();
node('linux,cma@3c000000');
observed.deviceTreeCma = use('cma');

clear();
writeFileSync(`${directory}/file`, '');
observed.notADevice = await errorOf(() => DmaHeap.open('file'));
// The number of a driver that is not there: what a node is after its module was unloaded.
node('gone', ['4000', '0']);
observed.noSuchDevice = await errorOf(() => DmaHeap.open('gone'));
symlinkSync('nowhere', `${directory}/dangling`);
observed.danglingLink = await errorOf(() => DmaHeap.open('dangling'));
observed.danglingInList = DmaHeap.list().find(({ name }) => name === 'dangling');

clear();
for (const name of ['default_cma_region', 'linux,cma', 'reserved']) node(name);
observed.severalRegions = DmaHeap.list();

clear();
node('default_cma_region');
chmodSync(`${directory}/default_cma_region`, 0o600);
node('reserved');
chmodSync(`${directory}/reserved`, 0o666);
process.setegid?.(65534);
process.seteuid?.(65534);
observed.olderAlone = DmaHeap.list();
observed.olderAloneByAlias = use('cma').name;
process.seteuid?.(0);
process.setegid?.(0);

clear();
node('system');
chmodSync(`${directory}/system`, 0o600);
process.setegid?.(65534);
process.seteuid?.(65534);
observed.inaccessible = DmaHeap.list();
process.seteuid?.(0);
process.setegid?.(0);

report(observed);
