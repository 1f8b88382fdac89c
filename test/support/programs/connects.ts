// Connects to DMABUF_TEST_SOCKET, sends a message, and ends when its standard input does.

import { once } from 'node:events';
import { DmaBufChannel } from 'dmabuf';
import { report } from '../programs.js';

using channel = await DmaBufChannel.connect(process.env.DMABUF_TEST_SOCKET as string);
await channel.send('x');
process.stdin.resume();
await once(process.stdin, 'end');
report(null);
