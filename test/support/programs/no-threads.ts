// Closes a file that takes a thread while none can be made, or a buffer of DMABUF_TEST_SIZE bytes that came from a peer, and
// does nothing more with the library. Reports whether the file was open then, and whether it is when threads can be made again
// and some time has passed.

import { existsSync, openSync } from 'node:fs';
import { isMainThread, Worker } from 'node:worker_threads';
import { allocateSync, closeHandles, createMemfd, type DmaBuf, DmaBufChannel } from 'dmabuf';
import { intercept, start, stop } from '../../inject/intercept.js';
import { report } from '../programs.js';

/** A buffer that a peer has sent, and holds no longer. */
async function received(size: number): Promise<DmaBuf> {
  const [sender, receiver] = DmaBufChannel.pair();
  using buffer = allocateSync(size);
  await sender.send('', [buffer]);
  const message = await receiver.receive();
  sender.close();
  receiver.close();
  return message?.handles[0] as DmaBuf;
}

if (isMainThread && process.env.IN_WORKER !== undefined) {
  new Worker(new URL(import.meta.url));
} else {
  const isOpen = (fd: number): boolean => existsSync(`/proc/self/fd/${fd}`);
  closeHandles([createMemfd(4096)]); // loads the addon
  intercept();
  const size = Number(process.env.DMABUF_TEST_SIZE ?? 0);
  const item = size > 0 ? await received(size) : openSync('/etc/hostname', 'r');
  const fd = typeof item === 'number' ? item : item.fd;
  start({ function: 'pthread_create', detail: 0, nth: 1, of: 1, errno: 'EAGAIN', form: 'from then on' });
  closeHandles([item]);
  const open = isOpen(fd);
  stop();
  for (let rounds = 0; rounds < 500 && isOpen(fd); rounds++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  report({ open, openLater: isOpen(fd) });
}
