// Ways to give a frame of 1080p to somebody else, who says when it is there. With `child` as argument, this is the other
// process. argv: child, which way, the path of a socket.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type ChannelMessage, closeHandles, DmaBufChannel, DmaHeap } from 'dmabuf';
import type { Work } from './rows.js';

const frameSize = 1920 * 1080 * 4;
const self = fileURLToPath(import.meta.url);

function startChild(way: string, path = '', fd?: number): ChildProcess {
  return spawn(process.execPath, [self, 'child', way, path], {
    stdio: ['pipe', 'pipe', 'inherit', 'ipc', ...(fd === undefined ? [] : [fd])],
  });
}

/** The CPU time of a child in nanoseconds. */
function askedOf(child: ChildProcess): () => Promise<number> {
  return async () => {
    child.send('time');
    const [time] = await once(child, 'message');
    return time as number;
  };
}

/** Calls `taken` whenever a whole frame has come. */
function takeFrames(from: Readable, taken: () => void): void {
  let left = frameSize;
  from.on('data', ({ length }: Buffer) => {
    left -= length;
    if (left > 0) return;
    left += frameSize;
    taken();
  });
}

/** Sends a frame to a child whenever it has the one before. */
function sendFrames(child: ChildProcess, to: Writable, from: Readable): Work {
  const bytes = new Uint8Array(frameSize).fill(1);
  const run = async (): Promise<void> => {
    const taken = once(from, 'data');
    to.write(bytes);
    await taken;
  };
  return { run, ofOthers: askedOf(child) };
}

/** A descriptor of the frame's memory goes to the child, which closes it. */
export async function frame(): Promise<Work> {
  const [here, there] = DmaBufChannel.pair();
  const child = startChild('channel', '', there.fd);
  const buffer = DmaHeap.open('system').allocateSync(frameSize);
  const run = async (): Promise<void> => {
    await here.send('frame', [buffer]);
    await here.receive();
  };
  await here.receive(); // It has started.
  return { run, ofOthers: askedOf(child) };
}

/** Through the child's standard input. */
export async function pipeFrame(): Promise<Work> {
  const child = startChild('pipe');
  return sendFrames(child, child.stdin as Writable, child.stdout as Readable);
}

/** Through a Unix socket. */
export async function socketFrame(): Promise<Work> {
  const path = join(mkdtempSync(join(tmpdir(), 'dmabuf-bench-')), 'socket');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const child = startChild('socket', path);
  const [socket] = (await once(server, 'connection')) as [Socket];
  return sendFrames(child, socket, socket);
}

/** A copy, by postMessage() to a worker, whose CPU time is this process's. */
export async function postFrame(): Promise<Work> {
  const source =
    "require('node:worker_threads').parentPort.on('message', function () { this.postMessage(1); })";
  const worker = new Worker(source, { eval: true });
  const bytes = new Uint8Array(frameSize).fill(1);
  const run = async (): Promise<void> => {
    const taken = once(worker, 'message');
    worker.postMessage(bytes);
    await taken;
  };
  return { run };
}

async function takeDescriptors(channel: DmaBufChannel): Promise<void> {
  await channel.send('ready');
  for (;;) {
    const message = await channel.receive();
    if (message === undefined) return;
    closeHandles((message as ChannelMessage).handles);
    await channel.send('taken');
  }
}

if (process.argv[2] === 'child') {
  const [way, path] = process.argv.slice(3) as [string, string];
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send?.((user + system) * 1000);
  });
  process.once('disconnect', () => process.exit());
  if (way === 'channel') {
    await takeDescriptors(DmaBufChannel.adopt(4));
  } else if (way === 'pipe') {
    takeFrames(process.stdin, () => process.stdout.write('.'));
  } else {
    const socket = connect(path);
    takeFrames(socket, () => socket.write('.'));
  }
}
