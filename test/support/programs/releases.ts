// Releases a channel (descriptor 3) while a message that it has no descriptor left for waits to be thrown away, and uses the
// number again. The first message brings what keeps the threads that close. Says when it has done so, and, when it is told that
// these go on, what is received at the number.

import { closeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type ChannelMessage, closeHandles, DmaBufChannel } from 'dmabuf';
import { takeDescriptors, threadNames } from '../descriptors.js';
import { turns } from '../event-loop.js';

const commands = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const channel = DmaBufChannel.adopt(3);
const closers = (): number => threadNames().filter((name) => name === 'dmabuf-close').length;

closeHandles(((await channel.receive()) as ChannelMessage).handles);
while (closers() < 2) await turns();
const fillers = takeDescriptors();
const pending = channel.receive().catch(({ code }) => code);
await turns();
const number = channel.release();
const code = await pending;
closeSync(number);
closeSync(fillers.pop() as number);
const ends = DmaBufChannel.pair();
for (const filler of fillers) closeSync(filler);
const [at, other] = ends[0].fd === number ? ends : [ends[1], ends[0]];
await other.send('kept');
console.log(JSON.stringify([code, at.fd === number]));
await commands.next();
while (closers() > 0) await turns();
const received = await at.receive({ timeout: 0 }).catch((error) => error);
console.log(received.code ?? Buffer.from(received.data).toString());
process.exit();
