// The process that `npm run pauses` attacks. argv: what it does with the messages, the number of channels or streams (the
// descriptors from 3 on), the number of messages on each, and `channels` or `streams`. It reports when it is ready, starts
// on request, and reports how long its event loop was blocked at most, in milliseconds.

import { once } from 'node:events';
import { openSync } from 'node:fs';
import { closeHandles, createMemfd, DmaBufChannel, FdStream, type Sendable } from 'dmabuf';

const [how, count, messageCount, sockets] = process.argv.slice(2) as [string, string, string, string];
const messages = Number(messageCount);
const fds = Array.from({ length: Number(count) }, (_, index) => 3 + index);
const streams = sockets === 'streams' ? fds.map((fd) => FdStream.adopt(fd)) : [];
// Refused messages have one byte more.
const ends =
  sockets === 'streams' ? streams : fds.map((fd) => DmaBufChannel.adopt(fd, { maxMessageSize: 100 }));
const say = (what: string): void => console.log(what);

let last = 0;
let worst = 0;
let turns = 0;

function beginToMeasure(): void {
  last = performance.now();
  worst = 0;
}

setInterval(() => {
  const now = performance.now();
  worst = Math.max(worst, now - last - 1);
  last = now;
  turns++;
}, 1);

/** A quarter of a second, if nothing blocks the event loop. */
async function aWhile(): Promise<void> {
  const end = turns + 250;
  while (turns < end) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Receives messages until the first error, except the errors of refused messages. */
async function receiveAll(end: DmaBufChannel | FdStream, use: (handles: Sendable[]) => void): Promise<void> {
  for (let count = 0; count < messages; count++) {
    try {
      const message = await end.receive();
      if (message === undefined) return;
      use(message.handles);
    } catch (error) {
      if ((error as { code: string }).code !== 'ERR_DMABUF_MESSAGE_TRUNCATED') return;
    }
  }
}

function useAllNumbers(): void {
  for (;;) {
    try {
      openSync('/dev/null', 'r');
    } catch {
      return;
    }
  }
}

async function warmUpStreams(): Promise<void> {
  const [here, there] = FdStream.pair({ maxHandles: 1 });
  const [read, failing] = FdStream.pair({ maxHandles: 1 });
  const number = createMemfd(4096);
  const received = there.receive();
  await here.send('x', [number]);
  closeHandles((await received)?.handles ?? []);
  await here.send('x', [number]);
  const failed = new Promise((resolve) => failing.on('error', () => {}).on('close', resolve));
  failing.resume();
  await read.send('x', [number, number]);
  await failed;
  closeHandles([number]);
  for (const stream of [here, there, read]) stream.close();
}

/** Runs everything often enough that no compilation is measured. */
async function warmUp(): Promise<void> {
  for (let round = 0; round < 60; round++) {
    const [here, there] = DmaBufChannel.pair({ maxMessageSize: 100 });
    const [wide, narrow] = DmaBufChannel.pair();
    const number = createMemfd(4096);
    const received = there.receive();
    await here.send('x', [number]);
    closeHandles((await received)?.handles ?? []);
    await here.send('x', [number, wide.fd]);
    closeHandles([number]);
    for (const channel of [here, there, wide, narrow]) channel.close();
    await warmUpStreams();
  }
}

const kept: Sendable[][] = [];
const keep = (handles: Sendable[]): void => void kept.push(handles);

const commands: Record<string, () => Promise<void>> = {
  nothing: async () => {},
  receive: async () => {
    await Promise.all(ends.map((end) => receiveAll(end, closeHandles)));
  },
  close: async () => {
    for (const end of ends) end.close();
  },
  flow: async () => {
    for (const stream of streams) stream.on('error', () => {}).resume();
    await aWhile();
    for (const stream of streams) stream.destroy();
  },
  numbers: async () => {
    await Promise.all(ends.map((end) => receiveAll(end, keep)));
    await aWhile();
    beginToMeasure();
    for (const handles of kept) closeHandles(handles);
  },
  full: async () => {
    useAllNumbers();
    await aWhile();
    beginToMeasure();
    await Promise.all(ends.map((end) => receiveAll(end, closeHandles)));
  },
  exit: async () => {
    await Promise.all(ends.map((end) => receiveAll(end, keep)));
    say('exits');
    process.exit();
  },
};

await warmUp();
await aWhile();
say('ready');
await once(process.stdin, 'data');
beginToMeasure();
await (commands[how] as () => Promise<void>)();
await aWhile();
say(worst.toFixed(1));
