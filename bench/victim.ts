// The process that `npm run pauses` attacks. argv: what it does with the messages, the number of channels (the
// descriptors from 3 on), and the number of messages on each. It reports when it is ready, starts on request, and
// reports how long its event loop was blocked at most, in milliseconds.

import { once } from 'node:events';
import { openSync } from 'node:fs';
import { closeHandles, createMemfd, DmaBufChannel, type Sendable } from 'dmabuf';

const [how, channelCount, messageCount] = process.argv.slice(2) as [string, string, string];
const messages = Number(messageCount);
// Refused messages have one byte more.
const channels = Array.from({ length: Number(channelCount) }, (_, index) =>
  DmaBufChannel.adopt(3 + index, { maxMessageSize: 100 }),
);
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

/** Receives the messages of a channel until the first error, except the errors of refused messages. */
async function receiveAll(channel: DmaBufChannel, use: (handles: Sendable[]) => void): Promise<void> {
  for (let count = 0; count < messages; count++) {
    try {
      const message = await channel.receive();
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
  }
}

const kept: Sendable[][] = [];
const keep = (handles: Sendable[]): void => void kept.push(handles);

const commands: Record<string, () => Promise<void>> = {
  nothing: async () => {},
  receive: async () => {
    await Promise.all(channels.map((channel) => receiveAll(channel, closeHandles)));
  },
  close: async () => {
    for (const channel of channels) channel.close();
  },
  numbers: async () => {
    await Promise.all(channels.map((channel) => receiveAll(channel, keep)));
    await aWhile();
    beginToMeasure();
    for (const handles of kept) closeHandles(handles);
  },
  full: async () => {
    useAllNumbers();
    await aWhile();
    beginToMeasure();
    await Promise.all(channels.map((channel) => receiveAll(channel, closeHandles)));
  },
  exit: async () => {
    await Promise.all(channels.map((channel) => receiveAll(channel, keep)));
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
