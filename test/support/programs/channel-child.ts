// Has a channel as its descriptor `inheritedFd`.

import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel } from 'dmabuf';
import { closeOnExec, flagsOf, inheritedFd } from '../descriptors.js';
import { next } from '../messages.js';
import { report } from '../programs.js';

export interface ChannelChildReport {
  /** Of the buffer that came. */
  inode: number;
  name: string;
  fd: number;
  /** Whether the descriptor was close-on-exec before adopt(), and after. */
  flagBefore: boolean;
  flagAfter: boolean;
}

const isSet = (): boolean => (flagsOf(inheritedFd) & closeOnExec) !== 0;

const flagBefore = isSet();
const channel = DmaBufChannel.adopt(inheritedFd);
const flagAfter = isSet();
const { handles } = await next(channel);
const [buffer] = handles as [DmaBuf];
buffer.write(Buffer.from('from the child.'));
const own = allocateSync(4096);
own.write(Buffer.from("the child's own"));
await channel.send('hello too', [own]);
const observed: ChannelChildReport = {
  inode: buffer.inode,
  name: buffer.constructor.name,
  fd: channel.fd,
  flagBefore,
  flagAfter,
};
closeHandles([...handles, own]);
channel.close();
report(observed);
