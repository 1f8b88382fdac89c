// Tries each source of memory, allocates from the first that can serve, fills the buffer under CPU access and reads it
// back. When a source refuses, the error's message explains what failed and what to do about it.
//
//   node allocate.js [cma system udmabuf]

import { allocate, DmaBufError, DmaHeap } from 'dmabuf';

const sources = process.argv.length > 2 ? process.argv.slice(2) : ['cma', 'system', 'udmabuf'];
const size = 1920 * 1080 * 4;

for (const { path, kind, accessible, error } of DmaHeap.list()) {
  console.log(`${path} (${kind}): ${accessible ? 'usable' : error}`);
}

for (const source of sources) {
  try {
    using buffer = await allocate(size, { from: source });
    console.log(`${source}: serves, by the exporter '${buffer.info().exporter}'`);
  } catch (error) {
    if (!(error instanceof DmaBufError)) throw error;
    // There was one source, so there is one refusal; a request that no source can serve has none.
    console.log(`${source}: ${error.attempts?.[0]?.error.message ?? error.message}`);
  }
}

try {
  using buffer = await allocate(size, { from: sources, name: 'allocate-example' });
  console.log(`Allocated ${buffer.size} bytes from ${buffer.source}: fd ${buffer.fd}, inode ${buffer.inode}`);

  // The bytes are the buffer's own memory. Devices see the changes that are made between the start and the end of the
  // access.
  await buffer.withCpuAccess('write', (bytes) => {
    bytes.fill(0x80);
    bytes.set([1, 2, 3], bytes.length - 3);
  });

  // read() copies bytes out, under its own CPU access.
  const end = new Uint8Array(6);
  buffer.read(end, buffer.size - end.length);
  console.log(`Its last bytes: ${end.join(' ')}`);
} catch (error) {
  if (!(error instanceof DmaBufError)) throw error;
  console.log(error.message);
  process.exitCode = 1;
}
