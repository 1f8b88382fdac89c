// Uses the package, wherever prove-bundlers.mjs has put the code, and says what came of it.
// DMABUF_SOURCE: where a buffer must come from; nothing on a machine without heaps.

import { readFileSync } from 'node:fs';
import { allocateSync, DmaBufChannel, DmaHeap } from 'dmabuf';
import { snapshot } from 'dmabuf/inspect';
import { registerMetrics } from 'dmabuf/metrics';

function refusalOf(call) {
  try {
    call();
  } catch (error) {
    return error.code;
  }
}

/** What allocates where there is something to allocate from, and is refused with the documented code where not. */
function useBuffer() {
  const source = process.env.DMABUF_SOURCE;
  if (!source) return refusalOf(() => allocateSync(4096, { from: ['no-such-heap'] }));
  const buffer = allocateSync(4096, { from: [source], name: 'bundled' });
  buffer.write(new Uint8Array([1, 2, 3]), 5);
  const bytes = new Uint8Array(3);
  buffer.read(bytes, 5);
  const { name } = buffer.info();
  buffer.close();
  return `${name} from ${buffer.source}: ${bytes}`;
}

export async function use() {
  const heaps = DmaHeap.list().map(({ path }) => path);
  const [here, there] = DmaBufChannel.pair();
  const message = there.receive();
  await here.send('waited for');
  const received = Buffer.from((await message).data).toString();
  here.close();
  there.close();
  const { source } = await snapshot({ source: 'procfs' });
  const maps = readFileSync('/proc/self/maps', 'utf8');
  const addon = [...new Set(maps.match(/\/\S*\.node$/gm))].find((path) => !path.includes('/@next/'));
  return { addon, heaps, received, source, buffer: useBuffer(), metrics: typeof registerMetrics };
}
