// A worker that sends messages as fast as it can until nobody is there to receive them.

import { parentPort, workerData } from 'node:worker_threads';
import { DmaBufChannel } from 'dmabuf';

export interface FlooderData {
  /** The socket, which becomes the worker's. */
  fd: number;
  /** Of each message. */
  bytes: number;
  /** How many handles each message has. */
  handles: number;
}

const { fd, bytes, handles } = workerData as FlooderData;
using channel = DmaBufChannel.adopt(fd);
const data = new Uint8Array(bytes);
const sendables = new Array(handles).fill(0);
parentPort?.postMessage('ready');
try {
  for (;;) await channel.send(data, sendables);
} catch (error) {
  if ((error as { code?: string }).code !== 'EPIPE') throw error;
}
