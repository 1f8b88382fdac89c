// The other process of channel-many.test.ts: at descriptor 3. argv: ManyOptions as JSON.

import { DmaBufChannel } from 'dmabuf';
import { openFds } from '../descriptors.js';
import { turns, until } from '../event-loop.js';
import { makeMarked, receiveMany, sendMany } from '../many-messages.js';

export interface ManyOptions {
  receive?: { seed: number; count: number };
  send?: { seed: number; count: number };
}

export interface ManyReport {
  /** Its open descriptors, before and after. */
  before: number;
  after: number;
  /** Of the buffers that it made and closed. */
  inodes: number[];
}

const { receive, send } = JSON.parse(process.argv[2] as string) as ManyOptions;
const channel = DmaBufChannel.adopt(3);
console.log('ready');
await turns(); // standard output has its own descriptors
const before = openFds().size;
const buffers = send === undefined ? [] : makeMarked();
const inodes = buffers.map(({ inode }) => inode);
await Promise.all([
  send && sendMany(channel, buffers, send.seed, send.count),
  receive && receiveMany(channel, receive.seed, receive.count),
]);
for (const buffer of buffers) buffer.close();
// Threads close what others have.
await until(() => openFds().size <= before);
const report: ManyReport = { before, after: openFds().size, inodes };
await channel.send('done');
console.log(JSON.stringify(report));
await channel.receive(); // until the other side has seen all
channel.close();
