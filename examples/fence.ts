// Waits in every possible way for the devices that work on a buffer, without blocking the event loop; Ctrl-C gives up.
// The buffer comes from the server at the path, such as camera/producer.js; without a path it is a new one, which no
// device uses.
//
//   node fence.js [--path /tmp/camera.sock] [--timeout 5000]

import { parseArgs } from 'node:util';
import { allocate, closeHandles, DmaBuf, DmaBufChannel, DmaBufError } from 'dmabuf';

const { values } = parseArgs({
  options: { path: { type: 'string' }, timeout: { type: 'string', default: '5000' } },
});

/** A buffer on which a device may be working. In your program: the one that you gave to a camera or a GPU. */
async function takeBuffer(path: string | undefined): Promise<DmaBuf> {
  if (path === undefined) return allocate(1 << 20, { name: 'fence-example' });
  using channel = await DmaBufChannel.connect(path);
  const message = await channel.receive();
  const [buffer, ...others] = message?.handles ?? [];
  closeHandles(others);
  if (!(buffer instanceof DmaBuf)) throw new Error('what came is no buffer');
  return buffer;
}

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));

using buffer = await takeBuffer(values.path);

// Never waits. While a device writes, nobody may access the buffer; while one reads, nobody may write.
console.log(`ready to read: ${buffer.isReady('read')}, to write: ${buffer.isReady('write')}`);

// Waits for at most this many milliseconds.
try {
  await buffer.ready('read', { timeout: 20 });
  console.log('ready within 20 ms');
} catch (error) {
  if (!(error instanceof DmaBufError) || error.code !== 'ETIMEDOUT') throw error;
  console.log('still busy after 20 ms');
}

// The current fences as a file: you can wait for it later, merge it with others, or send it to another process.
using fences = buffer.exportSyncFile('read');
const { status, fences: list } = fences.info();
console.log(`fences: ${status} (${list.map(({ driver }) => driver).join(', ')})`);

try {
  console.log('waiting');
  await fences.wait({ signal: interrupt.signal, timeout: Number(values.timeout) });
  // This waits in the same way, then gives access to the bytes. Another device may have started meanwhile.
  const first = await buffer.withCpuAccess('read', (bytes) => bytes[0], { signal: interrupt.signal });
  console.log(`done: fences ${fences.status}, the first byte is ${first}`);
} catch (error) {
  const timedOut = error instanceof DmaBufError && error.code === 'ETIMEDOUT';
  if (!timedOut && !interrupt.signal.aborted) throw error;
  console.log(`gave up: ${(error as Error).message}`);
  process.exitCode = 1;
}
