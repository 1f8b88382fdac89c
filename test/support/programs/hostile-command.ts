// Holds a buffer of 12288 bytes until its standard input ends, under a name of its main thread that is made to break what
// prints it. The kernel keeps 15 bytes, which end in the middle of a character.

import { allocateSync } from 'dmabuf';

const buffer = allocateSync(12_288);
process.title = 'x"\\\n{}\u001b[2J=,-aé and more';
process.stdout.write(`${JSON.stringify({ inode: buffer.inode })}\n`);
process.stdin.resume();
// Mentioned here, so that it is not collected meanwhile.
process.stdin.on('end', () => {
  buffer.close();
  process.exit();
});
