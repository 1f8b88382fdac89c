// Receives what comes over its descriptor 3 and reports every message as a line of JSON. argv: options as JSON. A message
// `import <pid> <fd>` has it call importFrom(); `forward` has it send the handles on, to a peer that does not read.

import { closeSync } from 'node:fs';
import { DmaBufChannel, type DmaBufError, importFrom, type Sendable } from 'dmabuf';
import { openFds, takeDescriptors } from '../descriptors.js';
import { turns } from '../event-loop.js';
import { kindOf } from '../handles.js';

export interface ReceiverOptions {
  maxMessageSize?: number;
  /** How many descriptors it has left. Default: as many as there are. */
  free?: number;
  /** Whether it keeps the plain descriptors that it gets, since closing them might never end. */
  keep?: boolean;
}

export interface Reported {
  /** Of the message. */
  text?: string;
  length?: number;
  kinds?: string[];
  error?: string;
  /** How many descriptors it has open afterwards. */
  fds: number;
}

const { free, keep, ...channelOptions } = JSON.parse(process.argv[2] ?? '{}') as ReceiverOptions;

function leave(count: number): void {
  for (const fd of takeDescriptors().slice(0, count)) closeSync(fd);
}

async function report(what: Omit<Reported, 'fds'>): Promise<void> {
  await turns(2); // libuv closes in its own time
  console.log(JSON.stringify({ ...what, fds: free === undefined ? openFds().size : -1 }));
}

async function forward(handles: readonly Sendable[]): Promise<void> {
  const [here, there] = DmaBufChannel.pair();
  try {
    for (;;) await here.send(new Uint8Array(60_000), handles, { timeout: 0 });
  } finally {
    here.close();
    there.close();
  }
}

async function obey(text: string, handles: readonly Sendable[]): Promise<void> {
  const [word, pid, fd] = text.split(' ');
  if (word === 'import') importFrom(Number(pid), Number(fd)).close();
  if (word === 'forward') await forward(handles);
}

const channel = DmaBufChannel.adopt(3, channelOptions);
await channel.receive({ timeout: 1 }).catch(() => {}); // the first wait of a thread makes what all use
await report({ text: 'ready' });
if (free !== undefined) leave(free);
for (;;) {
  try {
    const message = await channel.receive();
    if (message === undefined) break;
    const { data, handles } = message;
    const text = Buffer.from(data).toString('latin1', 0, 100);
    const kinds = handles.map(kindOf);
    await obey(text, handles);
    for (const handle of handles) {
      if (typeof handle !== 'number') handle.close();
      else if (keep !== true) closeSync(handle);
    }
    await report({ text, length: data.length, kinds });
  } catch (error) {
    await report({ error: (error as DmaBufError).code });
  }
}
channel.close();
await report({ text: 'end' });
