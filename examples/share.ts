// Shares a buffer with a child process over a DmaBufChannel. The memory exists once: the child verifies what the parent
// wrote, inverts every byte and answers, and the parent sees the inverted bytes.
//
//   node share.js

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { allocate, closeHandles, DmaBuf, DmaBufChannel } from 'dmabuf';

const pattern = (index: number): number => (index * 7 + (index >> 8)) & 0xff;

async function parent(): Promise<void> {
  using buffer = await allocate(1 << 18, { name: 'share-example' });
  await buffer.withCpuAccess('write', (bytes) => {
    for (let index = 0; index < bytes.length; index++) bytes[index] = pattern(index);
  });

  const [mine, yours] = DmaBufChannel.pair();
  using channel = mine;
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'child'], {
    stdio: ['ignore', 'inherit', 'inherit', yours.fd],
  });
  const exit = once(child, 'exit');
  yours.close(); // The child has its own. With this one open, receive() would not notice the child's death.

  await channel.send('invert this', [buffer]); // What is sent is a duplicate: this one stays ours.

  const answer = await channel.receive();
  if (answer === undefined) throw new Error('the child ended without an answer');
  closeHandles(answer.handles); // It was asked for none, but a peer may send what it likes.
  console.log(`parent: the child says: ${new TextDecoder().decode(answer.data)}`);

  const wrong = await buffer.withCpuAccess('read', (bytes) =>
    bytes.findIndex((byte, index) => byte !== (~pattern(index) & 0xff)),
  );
  if (wrong >= 0) throw new Error(`byte ${wrong} is not inverted`);
  console.log(`parent: all ${buffer.size} bytes are inverted here, too`);

  const [code] = await exit;
  if (code !== 0) throw new Error(`the child ended with ${code}`);
}

async function child(): Promise<void> {
  using channel = DmaBufChannel.adopt(3); // Its place in the stdio of spawn().
  const message = await channel.receive();
  const [handle] = message?.handles ?? [];
  if (!(handle instanceof DmaBuf)) throw new Error('the parent sent no buffer');
  using buffer = handle;
  console.log(`child: got '${buffer.info().name}', inode ${buffer.inode}`);
  await buffer.withCpuAccess('read-write', (bytes) => {
    const wrong = bytes.findIndex((byte, index) => byte !== pattern(index));
    if (wrong >= 0) throw new Error(`byte ${wrong} is wrong`);
    for (let index = 0; index < bytes.length; index++) bytes[index] = ~pattern(index);
  });
  await channel.send(`verified and inverted ${buffer.size} bytes`);
}

if (process.argv[2] === 'child') await child();
else await parent();
