// Closes a file or a buffer (DMABUF_TEST_WHAT) while no thread can be made, and does nothing more with the library. Reports
// whether it was open then, and whether it is when threads can be made again and some time has passed.

import { closeSync, existsSync, openSync } from 'node:fs';
import { isMainThread, Worker } from 'node:worker_threads';
import { allocateSync, closeHandles, createMemfd, DmaBuf, DmaBufChannel } from 'dmabuf';
import { intercept, start, stop } from '../../inject/intercept.js';
import { threadNames } from '../descriptors.js';
import { report } from '../programs.js';

/** A buffer, and one that came over a channel: another descriptor of it, which its sender closes. */
async function sendOne(): Promise<[DmaBuf, DmaBuf]> {
  const [sender, receiver] = DmaBufChannel.pair();
  const buffer = allocateSync(8192);
  await sender.send('', [buffer]);
  const message = await receiver.receive();
  sender.close();
  receiver.close();
  return [buffer, message?.handles[0] as DmaBuf];
}

const kept: DmaBuf[] = [];

const makers: Record<string, () => Promise<DmaBuf | number>> = {
  file: async () => openSync('/etc/hostname', 'r'),
  own: async () => allocateSync(8192),
  received: async () => {
    const [sent, received] = await sendOne();
    sent.close();
    return received;
  },
  sent: async () => {
    const [sent, received] = await sendOne();
    received.close();
    return sent;
  },
  imported: async () => {
    const fd = allocateSync(8192).release();
    const buffer = DmaBuf.import(fd);
    closeSync(fd);
    return buffer;
  },
  'the last copy of what was received': async () => {
    const [sent, received] = await sendOne();
    sent.close();
    const copy = received.dup();
    received.close();
    return copy;
  },
  'a copy of what was sent before': async () => {
    const [sent, received] = await sendOne();
    received.close();
    const copy = sent.dup();
    sent.close();
    return copy;
  },
  'a copy, the other was sent': async () => {
    const buffer = allocateSync(8192);
    const copy = buffer.dup();
    const [sender, receiver] = DmaBufChannel.pair();
    await sender.send('', [buffer]);
    closeHandles((await receiver.receive())?.handles ?? []);
    for (const object of [sender, receiver, buffer]) object.close();
    return copy;
  },
  'a copy beside what was received': async () => {
    const [sent, received] = await sendOne();
    sent.close();
    kept.push(received);
    return received.dup();
  },
  'a copy of our own': async () => {
    using buffer = allocateSync(8192);
    return buffer.dup();
  },
  'our own, by its number': async () => {
    using buffer = allocateSync(8192);
    return DmaBuf.import(buffer.fd);
  },
};

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

if (isMainThread && process.env.IN_WORKER !== undefined) {
  new Worker(new URL(import.meta.url));
} else {
  const isOpen = (fd: number): boolean => existsSync(`/proc/self/fd/${fd}`);
  closeHandles([createMemfd(4096)]); // loads the addon
  intercept();
  const item = await (makers[process.env.DMABUF_TEST_WHAT as string] as () => Promise<DmaBuf | number>)();
  const fd = typeof item === 'number' ? item : item.fd;
  // A thread that has nothing left to do may stay for a moment.
  while (threadNames().includes('dmabuf-close')) await pause();
  start({ function: 'pthread_create', detail: 0, nth: 1, of: 1, errno: 'EAGAIN', form: 'from then on' });
  closeHandles([item]);
  const open = isOpen(fd);
  stop();
  for (let rounds = 0; rounds < 500 && isOpen(fd); rounds++) {
    await pause();
  }
  report({ open, openLater: isOpen(fd) });
  closeHandles(kept);
}
