// Reports what a process that may not use every device is told. argv: nothing.

import { spawnSync } from 'node:child_process';
import { allocateSync, DmaHeap, type HeapInfo } from 'dmabuf';
import { examine, type Finding } from 'dmabuf/inspect';
import { errorOf, type ReportedError } from '../expect.js';
import { packageRoot, report } from '../programs.js';

export interface DeviceAccessReport {
  list: HeapInfo[];
  /** Absent where it opens. */
  system?: ReportedError;
  cma?: ReportedError;
  udmabuf?: ReportedError;
  /** Of the default sources. */
  any?: ReportedError;
  /** What opening each path in the list answers that is not accessible. */
  refused: Record<string, ReportedError | undefined>;
  findings: Finding[];
  heaps: { status: number | null; stdout: string; stderr: string };
  doctor: { status: number | null; stdout: string; stderr: string };
}

async function refusalOf(use: () => Disposable): Promise<ReportedError | undefined> {
  try {
    using _used = use();
    return undefined;
  } catch (error) {
    return errorOf(() => Promise.reject(error));
  }
}

function dmabuf(command: string): DeviceAccessReport['heaps'] {
  const args = [`${packageRoot}/dist/package/cli.js`, command];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

const observed: DeviceAccessReport = {
  list: DmaHeap.list(),
  findings: await examine(),
  heaps: dmabuf('heaps'),
  doctor: dmabuf('doctor'),
  refused: {},
};
for (const { path, accessible } of observed.list) {
  if (!accessible) observed.refused[path] = await refusalOf(() => DmaHeap.open(path));
}
const system = await refusalOf(() => DmaHeap.open('system'));
if (system !== undefined) observed.system = system;
const cma = await refusalOf(() => DmaHeap.open('cma'));
if (cma !== undefined) observed.cma = cma;
const udmabuf = await refusalOf(() => allocateSync(4096, { from: 'udmabuf' }));
if (udmabuf !== undefined) observed.udmabuf = udmabuf;
const any = await refusalOf(() => allocateSync(4096));
if (any !== undefined) observed.any = any;
report(observed);
