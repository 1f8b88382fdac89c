// Shares the buffer on descriptor 3, and changes its text for ever between characters of one and of three bytes.

import { DmaBuf } from 'dmabuf';

const { bytes } = DmaBuf.adopt(3).map();
const wide = Buffer.alloc(bytes.length, '\u4e2d');
const narrow = Buffer.alloc(bytes.length, 'a');
console.log('rewriting');
for (;;) {
  bytes.set(wide);
  bytes.set(narrow);
}
