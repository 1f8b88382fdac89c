// Holds a buffer until its standard input ends: the one that it has as its descriptor `inheritedFd`, else one of its own.
// DMABUF_TEST_BECOME: the user that it becomes.

import { fstatSync, openSync } from 'node:fs';
import { allocateSync, DmaBuf } from 'dmabuf';
import { inheritedFd } from '../descriptors.js';

function inherited(): DmaBuf | undefined {
  try {
    fstatSync(inheritedFd);
    return DmaBuf.import(inheritedFd);
  } catch {
    return undefined;
  }
}

const uid = Number(process.env.DMABUF_TEST_BECOME ?? 0);
if (uid !== 0) {
  process.setgid?.(uid);
  process.setuid?.(uid);
}
const buffer = inherited() ?? allocateSync(8192);
buffer.write(Buffer.from('from the child'));
const file = openSync('/dev/null', 'r');
const path = openSync(`/proc/self/fd/${buffer.fd}`, 0o10000000); // O_PATH
const held = { buffer: buffer.fd, inode: buffer.inode, file, path };
process.stdout.write(`${JSON.stringify(held)}\n`);
process.stdin.resume();
// Mentioned here, so that it is not collected meanwhile.
process.stdin.on('end', () => {
  buffer.close();
  process.exit();
});
