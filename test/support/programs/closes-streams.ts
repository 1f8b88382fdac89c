// What closes.ts does, with streams. argv: how, and how many streams there are from descriptor 3 on.

import { closeSync } from 'node:fs';
import { closeHandles, createMemfd, FdStream } from 'dmabuf';
import { takeDescriptors } from '../descriptors.js';

const [how, count] = [process.argv[2] as string, Number(process.argv[3])];
const maxHandles = how === 'refused' ? 0 : 1024;
const streams = Array.from({ length: count }, (_, index) => FdStream.adopt(3 + index, { maxHandles }));
const say = (what: object): void => console.log(JSON.stringify(what));

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

const codeOf = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'received',
    (error: { code: string }) => error.code,
  );

/** Reads until there is an error, or the end. */
function failing(stream: FdStream): Promise<unknown> {
  return new Promise((resolve) => {
    stream.once('error', (error: { code?: string }) => resolve(error.code));
    stream.once('end', () => resolve('the end'));
    stream.resume();
  });
}

/** Receives and closes until the peer is dropped, or ends. */
async function untilDropped(stream: FdStream): Promise<unknown> {
  for (;;) {
    try {
      const message = await stream.receive();
      if (message === undefined) return 'the end';
      closeHandles(message.handles);
    } catch (error) {
      return (error as { code: string }).code;
    }
  }
}

const commands: Record<string, () => Promise<unknown[]>> = {
  nothing: async () => [],
  refused: () => Promise.all(streams.map(failing)),
  queue: async () => {
    for (const stream of streams) stream.destroy();
    return [];
  },
  unclaimed: async () => {
    const arrived = (stream: FdStream): Promise<unknown> =>
      new Promise((resolve) => stream.once('data', resolve).once('end', resolve));
    await Promise.all(streams.map(arrived));
    for (const stream of streams) stream.destroy();
    return [];
  },
  numbers: async () => {
    const messages = await Promise.all(streams.map((stream) => stream.receive()));
    closeHandles(messages.flatMap((message) => message?.handles ?? []));
    return [];
  },
  few: async () => {
    const opened = takeDescriptors();
    for (const fd of opened.splice(-3)) closeSync(fd);
    return [await codeOf((streams[0] as FdStream).receive())];
  },
  flood: () => Promise.all(streams.map(untilDropped)),
};

/** Has everything run once, so that what is measured is no compiling. */
async function warmUp(): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const [here, there] = FdStream.pair();
    const number = createMemfd(4096);
    const received = there.receive();
    await here.send('x', [number]);
    closeHandles((await received)?.handles ?? []);
    await here.send('x', [number, here.fd]);
    await new Promise((resolve) => there.once('data', resolve));
    closeHandles([number]);
    for (const stream of [here, there]) stream.destroy();
  }
  await aWhile();
  worst = 0;
}

await warmUp();
say({ ready: true });
process.stdin.once('data', async () => {
  last = performance.now();
  const results = await (commands[how] as () => Promise<unknown[]>)();
  await aWhile();
  say({ worst: Math.round(worst), results });
});
process.stdin.once('end', () => clearInterval(beat));
