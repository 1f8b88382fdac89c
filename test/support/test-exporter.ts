import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { DmaBuf, SyncFile } from 'dmabuf';
import { loadFences } from './fences.js';
import { kernelTest, type TestBody } from './kernel-test.js';

const path = '/dev/dmabuf_test';

/** Why the exporter of kernel-modules/dmabuf_test.c is not here; false when it is. */
export const noTestExporter: string | false = existsSync(path)
  ? false
  : `${path} does not exist: dmabuf vm --modules dmabuf_test`;

const makeBuffer = 0x7401;
const loseBuffer = 0x7402;
const makeFence = 0x7403;
const endFences = 0x7404;

function control(request: number, argument: number): number {
  const device = openSync(path, 'r+');
  try {
    return loadFences().control(device, request, argument);
  } finally {
    closeSync(device);
  }
}

/** The descriptor of a new buffer. */
export function testBufferFd(size: number): number {
  return control(makeBuffer, size);
}

export function testBuffer(size = 8192): DmaBuf {
  return DmaBuf.adopt(testBufferFd(size));
}

/** The buffer's memory is gone, as if its device had been removed: what touches it gets SIGBUS. */
export function loseTestBuffer(buffer: DmaBuf): void {
  control(loseBuffer, buffer.fd);
}

/** A file of a fence that `endTestFences()` ends with this errno; 0 is success. */
export function testFence(errno: number): SyncFile {
  return SyncFile.adopt(control(makeFence, errno));
}

/** Ends all fences of `testFence()` that are active. */
export function endTestFences(): void {
  control(endFences, 0);
}

/** What can be told: errnos with which calls fail (0: they do not), and names. */
type Parameter =
  | 'begin_error'
  | 'begin_times'
  | 'end_error'
  | 'mmap_error'
  | 'exporter'
  | 'driver'
  | 'timeline';

/** Sets parameters of the module until it is disposed of. */
export function tell(parameters: Partial<Record<Parameter, number | string>>): Disposable {
  const before = Object.entries(parameters).map(([name, value]) => {
    const file = `/sys/module/dmabuf_test/parameters/${name}`;
    const old = readFileSync(file, 'latin1').trimEnd();
    writeFileSync(file, `${value}`);
    return [file, old] as const;
  });
  return {
    [Symbol.dispose]: () => {
      for (const [file, old] of before) writeFileSync(file, old);
    },
  };
}

/** A `kernelTest` that needs the exporter. */
export function exporterTest(name: string, body: TestBody): void {
  kernelTest(name, body, noTestExporter);
}
