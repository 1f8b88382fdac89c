// Shows which processes hold dma-bufs on this machine, what one allocation changes, and what this process has not
// closed yet. Root sees every process; other users see their own.
//
//   node inspect.js

import { allocate, openHandles, setHandleTracking } from 'dmabuf';
import { diff, snapshot } from 'dmabuf/inspect';

const before = await snapshot();
const { total, source, processes, unaccounted, unreadable } = before;
console.log(`${total.buffers} buffers, ${total.size} bytes, as ${source.join(' and ')} tell`);

// A buffer that several processes hold counts in full in the rss of each; the pss divides it among them.
for (const { pid, command, pss, rss } of [...processes].sort((a, b) => b.pss - a.pss).slice(0, 5)) {
  console.log(`process ${pid} ${JSON.stringify(command)}: share ${pss} of ${rss} bytes`);
}
if (unaccounted) console.log(`held by no process that may be seen: ${unaccounted.size} bytes`);
if (unreadable.length > 0) console.log(`${unreadable.length} processes may not be looked into`);

setHandleTracking(true); // From now on openHandles() says where things were made; so does NODE_DEBUG=dmabuf.
const buffer = await allocate(1 << 20, { name: 'inspect-example' });

const { appeared, grown } = diff(before, await snapshot());
for (const { inode, size, exporter, name } of appeared) {
  // Any process may choose these names, so show them quoted.
  console.log(`appeared: inode ${inode}, ${size} bytes from ${exporter}, named ${JSON.stringify(name)}`);
}
for (const { pid, command, growth } of grown) {
  console.log(`grown: process ${pid} ${JSON.stringify(command)} by ${growth} bytes`);
}

for (const { type, fd, size, madeAt } of openHandles()) {
  console.log(
    `open here: ${type}, fd ${fd}, ${size} bytes, made${madeAt?.split('\n')[0]?.replace(/^ +/, ' ')}`,
  );
}
buffer.close();
console.log(`open here after close(): ${openHandles().length}`);
