// The main job on a real kernel: allocate, fill, share with a child process, inspect.
// `npm run demo` runs it here or, on a machine without heaps, in a VM.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { DmaBuf, DmaHeap } from 'dmabuf';

const size = 1 << 20;
const pattern = (index: number): number => (index * 7 + (index >> 8)) & 0xff;

async function parent(): Promise<void> {
  console.log(`Linux ${release()}, Node ${process.version}\n`);

  console.log('Heaps:');
  for (const heap of DmaHeap.list()) {
    console.log(`  ${heap.path}  ${heap.kind}  ${heap.accessible ? 'usable' : `not usable: ${heap.error}`}`);
  }

  using heap = DmaHeap.open('system');
  using buffer = await heap.allocate(size, { name: 'demo-frame' });
  console.log(`\nAllocated ${buffer.size} bytes from ${heap.path}: fd ${buffer.fd}, inode ${buffer.inode}`);

  using mapping = buffer.map({ access: 'write' });
  buffer.withCpuAccessSync('write', () => {
    for (let index = 0; index < size; index++) mapping.bytes[index] = pattern(index);
  });
  console.log('Filled it with a pattern through a mapping, under CPU access');

  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'child'], {
    stdio: ['ignore', 'inherit', 'inherit', buffer.fd],
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`the child ended with ${code}`);

  console.log('\nWhat the library says of it:');
  console.log(buffer.info());
  console.log(`\n/proc/self/fdinfo/${buffer.fd}, as the kernel prints it:`);
  console.log(readFileSync(`/proc/self/fdinfo/${buffer.fd}`, 'utf8'));
}

/** The child has the buffer as descriptor 3, its place in the parent's `stdio`. */
function child(): void {
  using buffer = DmaBuf.adopt(3);
  const wrong = buffer.withCpuAccessSync('read', (bytes) =>
    bytes.findIndex((byte, i) => byte !== pattern(i)),
  );
  const info = buffer.info();
  console.log(
    `Child ${process.pid} got '${info.name}' from exporter '${info.exporter}' (inode ${info.inode})`,
  );
  if (wrong >= 0) throw new Error(`byte ${wrong} is wrong`);
  console.log(`Child ${process.pid} verified all ${buffer.size} bytes`);
}

if (process.argv[2] === 'child') child();
else await parent();
