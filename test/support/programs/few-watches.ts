// Waits for more files than epolls may watch (fs.epoll.max_user_watches, which this sets), and reports how often each error
// came, how many waits went on, and what one is told when there is room again. As root.

import { readFileSync, writeFileSync } from 'node:fs';
import { DmaBufChannel } from 'dmabuf';
import type { DmaBufError } from '../../../lib/errors.js';
import { report } from '../programs.js';

export interface FewWatchesReport {
  refused: Record<string, number>;
  served: number;
  afterwards: number | undefined;
}

const setting = '/proc/sys/fs/epoll/max_user_watches';
const usual = readFileSync(setting, 'utf8');
const pairs = Array.from({ length: 400 }, () => DmaBufChannel.pair());
// What Node.js itself watches has been added by then.
await new Promise((resolve) => setTimeout(resolve, 1));
writeFileSync(setting, '200');
const refused: FewWatchesReport['refused'] = {};
let served = 0;
const waits = pairs.map(async ([, there]) => {
  try {
    if ((await there.receive()) !== undefined) served++;
  } catch (error) {
    const { code, syscall } = error as DmaBufError;
    refused[`${code} ${syscall}`] = (refused[`${code} ${syscall}`] ?? 0) + 1;
  }
});
// The event loop turns.
await new Promise((resolve) => setImmediate(resolve));
writeFileSync(setting, usual);
await Promise.all(pairs.map(([here]) => here.send('message')));
await Promise.all(waits);
const [here, there] = pairs[0] as [DmaBufChannel, DmaBufChannel];
const received = there.receive();
setImmediate(() => void here.send('more'));
const afterwards = (await received)?.data.length;
for (const channel of pairs.flat()) channel.close();
report({ refused, served, afterwards });
