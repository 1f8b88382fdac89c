// npm run demo: on the host's own heaps when it has some that this user may use, else in a VM.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

setup({ withTests: false });
const { DmaHeap } = await import('dmabuf');
const demo = [process.execPath, join(root, 'dist/examples/demo.js')];
const heap = DmaHeap.list().find(({ name }) => name === 'system');
if (heap?.accessible) {
  console.error("demo: running on this machine's own heaps");
  process.exitCode = spawnSync(demo[0], demo.slice(1), { stdio: 'inherit' }).status ?? 1;
} else {
  const why = heap === undefined ? 'this machine has no /dev/dma_heap/system' : `${heap.path}: ${heap.error}`;
  console.error(`demo: ${why}; running in a VM`);
  const { runInVm, VmError } = await import('dmabuf/vm');
  try {
    const { exitCode } = await runInVm({
      command: demo,
      progress: (text) => console.error(`demo: ${text}`),
    });
    process.exitCode = exitCode;
  } catch (error) {
    if (!(error instanceof VmError)) throw error;
    console.error(`demo: ${error.message}`);
    process.exitCode = 1;
  }
}
