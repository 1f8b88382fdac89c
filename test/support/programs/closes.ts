// Closes, in the way that argv says, what peers have sent over the channels from descriptor 3 on, and reports as a line of
// JSON how long the event loop stood still at most. argv: how, and how many channels.

import { closeSync, existsSync } from 'node:fs';
import {
  allocateSync,
  type ChannelMessage,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  SyncFile,
} from 'dmabuf';
import { takeDescriptors } from '../descriptors.js';

const [how, count] = [process.argv[2] as string, Number(process.argv[3])];
const channels = Array.from({ length: count }, (_, index) =>
  DmaBufChannel.adopt(3 + index, { maxMessageSize: 10_000 }),
);
const say = (what: object): void => console.log(JSON.stringify(what));
const codeOf = async (fn: () => unknown): Promise<unknown> => {
  try {
    return await fn();
  } catch (error) {
    return (error as { code: string }).code;
  }
};

let last = performance.now();
let worst = 0;
let turns = 0;
const beat = setInterval(() => {
  const now = performance.now();
  worst = Math.max(worst, now - last - 5);
  last = now;
  turns++;
}, 5);

/** As many turns of the event loop as take a quarter of a second when nothing holds it up. */
const aWhile = (): Promise<void> =>
  new Promise((resolve) => {
    const end = turns + 50;
    const wait = setInterval(() => {
      if (turns < end) return;
      clearInterval(wait);
      resolve();
    }, 5);
  });

async function report(results: unknown[] = []): Promise<void> {
  await aWhile();
  say({ worst: Math.round(worst), results });
}

async function receiveNumbers(): Promise<number[]> {
  const messages = await Promise.all(channels.map((channel) => channel.receive()));
  return messages.flatMap((message) => message?.handles ?? []).filter((handle) => typeof handle === 'number');
}

async function lookAt([fd]: number[]): Promise<unknown[]> {
  const number = fd as number;
  const uses: (() => unknown)[] = [
    () => DmaBuf.isDmaBuf(number),
    () => DmaBuf.import(number),
    () => DmaBuf.adopt(number),
    () => SyncFile.import(number),
    () => SyncFile.adopt(number),
    () => DmaBufChannel.adopt(number),
    () => DmaBuf.fromMemfd(number),
    () => closeHandles([number]),
    () => closeHandles([number]),
  ];
  const results: unknown[] = [];
  for (const use of uses) results.push(await codeOf(use));
  return results;
}

/** Receives until the peer is dropped. */
async function untilDropped(channel: DmaBufChannel): Promise<unknown> {
  for (;;) {
    const code = await codeOf(() => channel.receive());
    if (code !== 'ERR_DMABUF_MESSAGE_TRUNCATED') return code;
  }
}

/** Has the peers dropped, then receives what the last one sends until it goes, and closes that. */
async function serveInnocent(): Promise<unknown[]> {
  const innocent = channels.pop() as DmaBufChannel;
  say({ worst: Math.round(worst), results: await Promise.all(channels.map(untilDropped)) });
  const numbers: number[] = [];
  const receive = async (): Promise<unknown> => {
    for await (const { handles } of innocent) {
      numbers.push(handles[0] as number);
      closeHandles(handles);
    }
    return 'the end';
  };
  const end = await codeOf(receive);
  const isOpen = (fd: number): boolean => existsSync(`/proc/self/fd/${fd}`);
  for (let rounds = 0; rounds < 40 && numbers.some(isOpen); rounds++) await aWhile();
  return [numbers.length, end, numbers.some(isOpen) ? 'some open' : 'all closed'];
}

/** Receives with three descriptors that are free. */
async function receiveWithFew(channel: DmaBufChannel): Promise<unknown> {
  const opened = takeDescriptors();
  for (const fd of opened.splice(-3)) closeSync(fd);
  return codeOf(() => channel.receive());
}

/** Has everything run once, so that what is measured is no compiling. */
async function warmUp(): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const [here, there] = DmaBufChannel.pair({ maxMessageSize: 10_000 });
    const [wide, narrow] = DmaBufChannel.pair();
    const number = createMemfd(4096);
    const received = there.receive();
    await here.send('x', [number]);
    closeHandles((await received)?.handles ?? []);
    await here.send('x', [number, wide.fd]);
    closeHandles([number]);
    for (const channel of [here, there, wide, narrow]) channel.close();
    await codeOf(() => DmaBuf.isDmaBuf(0));
  }
  await aWhile();
  worst = 0;
}

const commands: Record<string, () => Promise<unknown[]>> = {
  nothing: async () => [],
  refused: () => Promise.all(channels.map((channel) => codeOf(() => channel.receive()))),
  queue: async () => {
    for (const channel of channels) channel.close();
    return [];
  },
  numbers: async () => {
    closeHandles(await receiveNumbers());
    return [];
  },
  buffer: async () => {
    const message = await (channels[0] as DmaBufChannel).receive();
    const [buffer] = (message as ChannelMessage).handles as [DmaBuf];
    buffer.close();
    return [buffer.closed];
  },
  sent: async () => {
    const buffer = allocateSync(4096);
    const channel = channels[0] as DmaBufChannel;
    await channel.send('x', [buffer]);
    await channel.receive(); // It holds the lock, and its descriptor is closed.
    buffer.close();
    return [buffer.closed];
  },
  adopted: async () => {
    const [number] = await receiveNumbers();
    const channel = DmaBufChannel.adopt(number as number);
    channel.close();
    return [channel.closed];
  },
  few: async () => [await receiveWithFew(channels[0] as DmaBufChannel)],
  look: async () => lookAt(await receiveNumbers()),
  innocent: serveInnocent,
  flood: () => Promise.all(channels.map(untilDropped)),
};

await warmUp();
if (how === 'server') {
  const server = DmaBufChannel.listen('/tmp/dmabuf-test-closes');
  say({ ready: true });
  process.stdin.once('data', () => {
    last = performance.now();
    server.close();
    void report();
  });
} else {
  say({ ready: true });
  process.stdin.once('data', async () => {
    last = performance.now();
    await report(await (commands[how] as () => Promise<unknown[]>)());
  });
}
process.stdin.once('end', () => clearInterval(beat));
