// What the scenarios of handing-over.scenarios.ts have other processes do: node handing-over.child.js <role> [path]

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import { allocateSync, closeHandles, DmaBuf, DmaBufChannel, FdStream, type Sendable } from 'dmabuf';

export type HandingRole =
  | 'return what comes'
  | 'return what a stream brings'
  | 'be forked'
  | 'wait for the end'
  | 'hand a channel on and stay'
  | 'become ls'
  | 'send and stay'
  | 'send for ever'
  | 'connect, send and stay'
  | 'listen and stay';

const [, file, role, path] = process.argv as [string, string, HandingRole, string];
const size = 64 * 1024;

function say(value: object): void {
  writeSync(1, `${JSON.stringify(value)}\n`);
}

function stay(): void {
  setInterval(() => {}, 1 << 30);
}

function closeAll(handles: readonly Sendable[]): void {
  for (const handle of handles) (handle as DmaBuf).close();
}

/** Sends buffers that nobody else holds, and returns their inodes. */
async function sendBuffers(channel: DmaBufChannel): Promise<number[]> {
  const inodes: number[] = [];
  for (let index = 0; index < 5; index++) {
    const buffer = allocateSync(size);
    inodes.push(buffer.inode);
    await channel.send(`message ${index}`, [buffer]);
    buffer.close();
  }
  return inodes;
}

const roles: Record<HandingRole, () => void | Promise<void>> = {
  'return what comes': async () => {
    const channel = DmaBufChannel.adopt(3);
    // What was adopted does not go to the next process.
    const listing = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8', stdio: 'pipe' });
    await channel.send(listing);
    for await (const { data, handles } of channel) {
      for (const handle of handles) (handle as DmaBuf).withCpuAccessSync('write', (bytes) => bytes.fill(8));
      await channel.send(data, handles);
      closeAll(handles);
    }
  },
  'return what a stream brings': async () => {
    const stream = FdStream.adopt(3);
    // What was adopted does not go to the next process.
    const listing = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8', stdio: 'pipe' });
    await stream.send(`${listing}\n.\n`);
    for await (const chunk of stream) {
      const handles: Sendable[] = [];
      for (let handle = stream.takeHandle(); handle !== undefined; handle = stream.takeHandle())
        handles.push(handle);
      await stream.send(chunk, handles);
      closeHandles(handles);
    }
  },
  'be forked': async () => {
    const channel = DmaBufChannel.adopt(4);
    const buffer = DmaBuf.adopt(5);
    buffer.withCpuAccessSync('write', (bytes) => bytes.fill(9));
    await channel.send('mine', [buffer]);
    process.send?.({ inode: buffer.inode });
    buffer.close();
    assert.equal(await channel.receive(), undefined);
    channel.close();
    process.disconnect();
  },
  'wait for the end': async () => {
    const channel = DmaBufChannel.adopt(3);
    say({ ready: true });
    const message = await channel.receive();
    say({ end: message === undefined });
  },
  'hand a channel on and stay': async () => {
    const [mine, yours] = DmaBufChannel.pair();
    const buffer = allocateSync(size);
    spawn(process.execPath, [file, 'wait for the end'], {
      stdio: ['ignore', 'inherit', 'inherit', yours.fd],
    });
    yours.close();
    say({ inode: buffer.inode });
    await mine.receive(); // for ever
  },
  'become ls': async () => {
    const [here, there] = DmaBufChannel.pair();
    const buffer = allocateSync(size);
    await here.send('a buffer', [buffer, buffer.exportSyncFile('read')]);
    await there.receive();
    void there.receive();
    const { execve } = process as unknown as { execve(file: string, args: string[]): never };
    execve('/bin/ls', ['ls', '-l', '/proc/self/fd']);
  },
  'send for ever': async () => {
    const channel = DmaBufChannel.adopt(3);
    for (let number = 0; ; number++) {
      const buffer = allocateSync(size);
      if (number % 100 === 0) say({ inode: buffer.inode });
      await channel.send(new Uint8Array(1000).fill(number), [buffer, buffer]);
      buffer.close();
    }
  },
  'send and stay': async () => {
    say({ inodes: await sendBuffers(DmaBufChannel.adopt(3)) });
    stay();
  },
  'connect, send and stay': async () => {
    say({ inodes: await sendBuffers(await DmaBufChannel.connect(path)) });
    stay();
  },
  'listen and stay': async () => {
    const server = DmaBufChannel.listen(path);
    say({ ready: true });
    const accepted: DmaBufChannel[] = [];
    for await (const channel of server) {
      accepted.push(channel);
      await channel.send('welcome');
    }
  },
};

await roles[role]();
