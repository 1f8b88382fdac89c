// Closes a file that takes a thread while none can be made, and does nothing more with the library. Reports whether the file
// was open then, and whether it is when threads can be made again and some time has passed.

import { existsSync, openSync } from 'node:fs';
import { isMainThread, Worker } from 'node:worker_threads';
import { closeHandles, createMemfd } from 'dmabuf';
import { intercept, start, stop } from '../../inject/intercept.js';
import { report } from '../programs.js';

if (isMainThread && process.env.IN_WORKER !== undefined) {
  new Worker(new URL(import.meta.url));
} else {
  const isOpen = (fd: number): boolean => existsSync(`/proc/self/fd/${fd}`);
  closeHandles([createMemfd(4096)]); // loads the addon
  intercept();
  const fd = openSync('/etc/hostname', 'r');
  start({ function: 'pthread_create', detail: 0, nth: 1, of: 1, errno: 'EAGAIN', form: 'from then on' });
  closeHandles([fd]);
  const open = isOpen(fd);
  stop();
  for (let rounds = 0; rounds < 500 && isOpen(fd); rounds++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  report({ open, openLater: isOpen(fd) });
}
