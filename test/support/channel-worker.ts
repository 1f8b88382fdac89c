// A worker that adopts a channel, and says at its end what it has seen.

import { parentPort, workerData } from 'node:worker_threads';
import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel } from 'dmabuf';
import { next } from './messages.js';

export interface ChannelWorkerData {
  fd: number;
  role: 'answer' | 'count' | 'leave' | 'wait';
}

export interface ChannelWorkerReport {
  inode?: number;
  /** How many bytes of each value arrived. */
  bytes?: Record<number, number>;
  /** Whether the peer's end was seen. */
  ended: boolean;
}

const { fd, role } = workerData as ChannelWorkerData;
const channel = DmaBufChannel.adopt(fd);
const report: ChannelWorkerReport = { ended: false };

if (role === 'answer') {
  const { data, handles } = await next(channel);
  const [buffer] = handles as [DmaBuf];
  report.inode = buffer.inode;
  await channel.send(`got ${Buffer.from(data)}`, [buffer]);
  buffer.close();
  report.ended = (await channel.receive()) === undefined;
  channel.close();
} else if (role === 'count') {
  report.bytes = {};
  for await (const { data } of channel) {
    for (const byte of data) report.bytes[byte] = (report.bytes[byte] ?? 0) + 1;
  }
  report.ended = true;
  channel.close();
} else if (role === 'wait') {
  const buffer = allocateSync(4096);
  for (let sent = 0; sent < 1000; sent++) void channel.send(Buffer.alloc(1000), [buffer]).catch(() => {});
  void channel.receive().then((message) => closeHandles(message?.handles ?? []));
}
parentPort?.postMessage(report);
