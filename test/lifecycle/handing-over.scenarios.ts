import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, fork, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  allocateSync,
  type ChannelMessage,
  type DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
  FdStream,
  openHandles,
} from 'dmabuf';
import { turn, until } from '../support/event-loop.js';
import { addFence, noFences } from '../support/fences.js';
import { assertFilled, bufferFds, kernelHas, noKernelList, untilGone } from '../support/observe.js';
import type { HandingRole } from './handing-over.child.js';
import type { Scenario } from './scenario.js';

const size = 64 * 1024;

const program = fileURLToPath(new URL('./handing-over.child.js', import.meta.url));

/** A process in a role, with these descriptors as its 3, 4, … */
function start(role: HandingRole, fds: readonly number[] = [], path = ''): ChildProcess {
  return spawn(process.execPath, [program, role, path], { stdio: ['ignore', 'pipe', 'inherit', ...fds] });
}

/** A process that does nothing but hold these descriptors as its 3, 4, … */
function holder(...fds: number[]): ChildProcess {
  return spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'inherit', ...fds] });
}

/** The next message, which must be there or come. */
async function next(channel: DmaBufChannel): Promise<ChannelMessage> {
  const message = await channel.receive();
  assert.ok(message, 'the peer is gone');
  return message;
}

async function nextText(channel: DmaBufChannel): Promise<string> {
  return Buffer.from((await next(channel)).data).toString();
}

/** The lines of JSON that a process writes. */
async function* linesOf(child: ChildProcess): AsyncGenerator<Record<string, unknown>, void> {
  let text = '';
  for await (const chunk of child.stdout ?? []) {
    const lines = (text + chunk).split('\n');
    text = lines.pop() as string;
    for (const line of lines) yield JSON.parse(line) as Record<string, unknown>;
  }
}

async function nextOf(
  lines: AsyncGenerator<Record<string, unknown>, void>,
): Promise<Record<string, unknown>> {
  const { value, done } = await lines.next();
  assert.ok(!done && value, 'the process ended');
  return value;
}

async function endOf(child: ChildProcess): Promise<number | string> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.signalCode ?? (child.exitCode as number);
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  assert.equal(await endOf(child), 'SIGKILL');
}

/** Asserts that this process no longer holds anything, and that the kernel no longer has these buffers. */
async function assertNothingLeft(inodes: readonly number[] = []): Promise<void> {
  assert.deepEqual(openHandles(), []);
  await until(() => bufferFds() === 0, 'no buffer is open');
  if (noKernelList === false) await untilGone(inodes);
}

/** What `ls -l /proc/self/fd` shows beyond standard input, output and error. */
function beyondStandard(listing: string): string[] {
  return listing
    .split('\n')
    .filter((line) => / \d+ -> /.test(line) && !/ ([012]) -> | -> \/proc\//.test(line));
}

function listingOfChild(stdio: StdioOptions = 'pipe'): string {
  return execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8', stdio });
}

/** One that gets through the socket, and then those that wait. */
function fill(channel: DmaBufChannel): { calls: Promise<void>[]; inodes: number[] } {
  const inodes: number[] = [];
  const calls = Array.from({ length: 6 }, () => {
    const buffer = allocateSync(size);
    inodes.push(buffer.inode);
    const sent = channel.send(new Uint8Array(100_000), [buffer]);
    buffer.close();
    return sent;
  });
  return { calls, inodes };
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'spawn: a channel end goes as a place of stdio, buffers go there and back, and the end of the child is told',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      const child = start('return what comes', [there.fd]);
      there.close();
      assert.deepEqual(beyondStandard(await nextText(here)), []);
      const buffer = allocateSync(size);
      buffer.withCpuAccessSync('write', (bytes) => bytes.fill(7));
      await here.send('one buffer twice', [buffer, buffer]);
      const message = await next(here);
      assert.equal(Buffer.from(message.data).toString(), 'one buffer twice');
      const handles = message.handles as DmaBuf[];
      assert.deepEqual(
        handles.map(({ inode }) => inode),
        [buffer.inode, buffer.inode],
      );
      const content = new Uint8Array(size);
      buffer.read(content);
      assertFilled(content, size, 8);
      const { inode } = buffer;
      for (const each of [buffer, ...handles]) each.close();
      here.close(); // ends the child's loop
      assert.equal(await endOf(child), 0);
      await assertNothingLeft([inode]);
    },
  },
  {
    name: 'spawn: a stream end goes as a place of stdio, and bytes with buffers go there and back',
    async run() {
      const [here, there] = FdStream.pair();
      const child = start('return what a stream brings', [there.fd]);
      there.close();
      let listing = '';
      while (!listing.endsWith('\n.\n')) listing += Buffer.from((await here.receive())?.data ?? []);
      assert.deepEqual(beyondStandard(listing), []);
      const buffer = allocateSync(size);
      const { inode } = buffer;
      await here.send('one buffer twice', [buffer, buffer]);
      buffer.close();
      const { data, handles } = (await here.receive()) as ChannelMessage;
      assert.equal(Buffer.from(data).toString(), 'one buffer twice');
      assert.deepEqual(
        (handles as DmaBuf[]).map((each) => each.inode),
        [inode, inode],
      );
      for (const each of handles as DmaBuf[]) each.close();
      here.end(); // ends the child's loop, and so the child
      assert.equal(await here.receive(), undefined);
      assert.equal(await endOf(child), 0);
      here.close();
      await assertNothingLeft([inode]);
    },
  },
  {
    name: 'fork: a channel end and a buffer go beside the IPC channel',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      const buffer = allocateSync(size);
      const { inode } = buffer;
      const child = fork(program, ['be forked'], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc', there.fd, buffer.fd],
      });
      there.close();
      buffer.close(); // the child has its own
      const [said, message] = await Promise.all([once(child, 'message'), next(here)]);
      assert.deepEqual(said[0], { inode });
      const [returned] = message.handles as [DmaBuf];
      assert.equal(returned.inode, inode);
      const content = new Uint8Array(size);
      returned.read(content);
      assertFilled(content, size, 9);
      returned.close();
      here.close();
      assert.equal(await endOf(child), 0);
      await assertNothingLeft([inode]);
    },
  },
  {
    name: 'the other end dies: what was sent is lost with it, receive() yields undefined, and send() fails with EPIPE',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      const child = holder(there.fd);
      there.close();
      const pending = [here.receive(), here.receive()];
      const { calls, inodes } = fill(here);
      const settled = Promise.allSettled(calls);
      await kill(child);
      assert.deepEqual(await Promise.all(pending), [undefined, undefined]);
      const outcomes = await settled;
      assert.equal(outcomes[0]?.status, 'fulfilled');
      const codes = outcomes.flatMap((outcome) =>
        outcome.status === 'rejected' ? [outcome.reason.code] : [],
      );
      assert.ok(codes.length >= 3);
      assert.ok(codes.every((code) => code === 'EPIPE'));
      await assert.rejects(here.send('anyone?'), { code: 'EPIPE' });
      if (noKernelList === false) await untilGone(inodes);
      here.close();
      await assertNothingLeft();
    },
  },
  {
    name: 'this process’s own copy of the end that it gave away keeps the channel open',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      const child = holder(there.fd);
      let ended = false;
      const pending = here.receive().then((message) => {
        ended = true;
        return message;
      });
      await kill(child);
      for (let count = 0; count < 50; count++) await turn();
      assert.equal(ended, false);
      there.close();
      assert.equal(await pending, undefined);
      here.close();
    },
  },
  {
    name: 'the parent is killed: the child is told the end, and the parent’s buffers are gone',
    async run() {
      const parent = start('hand a channel on and stay');
      const lines = linesOf(parent);
      const said = [await nextOf(lines), await nextOf(lines)];
      const inode = said.find((line) => 'inode' in line)?.inode as number;
      await kill(parent);
      assert.deepEqual(await nextOf(lines), { end: true }); // The grandchild writes there, too.
      assert.equal((await lines.next()).done, true);
      await assertNothingLeft([inode]);
    },
  },
  {
    name: 'the sender is killed: what it sent can be received, and what nobody receives goes with the channel',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      const child = start('send and stay', [there.fd]);
      there.close();
      const { inodes } = (await nextOf(linesOf(child))) as { inodes: number[] };
      await kill(child);
      const [buffer] = (await next(here)).handles as [DmaBuf];
      assert.equal(buffer.inode, inodes[0]);
      buffer.close();
      if (noKernelList === false) {
        await untilGone(inodes.slice(0, 1));
        assert.ok(inodes.slice(1).every(kernelHas));
      }
      here.close();
      await assertNothingLeft(inodes);
    },
  },
  {
    name: 'the sender is killed in the middle of a stream: every message arrives whole or not at all, then the end',
    async run() {
      const [here, there] = DmaBufChannel.pair();
      const child = start('send for ever', [there.fd]);
      there.close();
      const inodes: number[] = [];
      let count = 0;
      for await (const { data, handles } of here) {
        const [first, second] = handles as [DmaBuf, DmaBuf];
        assert.equal(first.inode, second.inode);
        assertFilled(data, 1000, count % 256);
        inodes.push(first.inode);
        first.close();
        second.close();
        if (++count === 50) child.kill('SIGKILL');
      }
      assert.equal(await endOf(child), 'SIGKILL');
      here.close();
      await assertNothingLeft(inodes);
    },
  },
  {
    name: 'a client is killed before it was accepted: it can be accepted still, and what it sent is there',
    async run() {
      const server = DmaBufChannel.listen(`@dmabuf-test-${process.pid}`);
      const child = start('connect, send and stay', [], server.path);
      const { inodes } = (await nextOf(linesOf(child))) as { inodes: number[] };
      await kill(child);
      const channel = await server.accept();
      assert.equal(channel.peer.pid, child.pid);
      ((await next(channel)).handles[0] as DmaBuf).close();
      channel.close();
      server.close();
      await assertNothingLeft(inodes);
    },
  },
  {
    name: 'a client is killed and nobody accepts: its buffers go with the server',
    async run() {
      const server = DmaBufChannel.listen(`@dmabuf-test-${process.pid}-2`);
      const child = start('connect, send and stay', [], server.path);
      const { inodes } = (await nextOf(linesOf(child))) as { inodes: number[] };
      await kill(child);
      if (noKernelList === false) assert.ok(inodes.every(kernelHas));
      server.close();
      await assertNothingLeft(inodes);
    },
  },
  {
    name: 'the server’s process is killed: its clients are told the end, and the next server takes its path over',
    async run() {
      const path = join(mkdtempSync(join(tmpdir(), 'dmabuf-test-')), 'socket');
      const child = start('listen and stay', [], path);
      await nextOf(linesOf(child));
      const client = await DmaBufChannel.connect(path);
      assert.equal(await nextText(client), 'welcome');
      const end = client.receive();
      await kill(child);
      assert.equal(await end, undefined);
      client.close();
      await assert.rejects(DmaBufChannel.connect(path), { code: 'ECONNREFUSED' });
      const next = DmaBufChannel.listen(path);
      const again = await DmaBufChannel.connect(path);
      again.close();
      next.close();
      await assertNothingLeft();
    },
  },
  {
    name: 'a child process gets nothing but what stdio names, whatever is open, waits or is on its way',
    async run() {
      const heap = DmaHeap.open('system');
      const buffer = heap.allocateSync(size);
      const mapping = buffer.map();
      const file = buffer.exportSyncFile('read');
      const [here, there] = DmaBufChannel.pair();
      const server = DmaBufChannel.listen(join(mkdtempSync(join(tmpdir(), 'dmabuf-test-')), 'socket'));
      const client = await DmaBufChannel.connect(server.path);
      const accepted = await server.accept();
      const pool = new DmaBufPool(size);
      const lent = await pool.acquire();
      const objects = [heap, buffer, buffer.dup(), file, here, there, server, client, accepted];
      await here.send('all kinds', [buffer, file, server.fd]);
      const [received, receivedFile, fd] = (await next(there)).handles as [DmaBuf, DmaBuf, number];
      objects.push(received, receivedFile);
      const number = DmaBufChannel.adopt(client.release());
      objects.push(number);
      const waits: Promise<unknown>[] = [accepted.receive(), here.receive(), server.accept()];
      waits.push(...fill(here).calls);
      if (noFences === false) {
        const fence = addFence(buffer, 'write');
        waits.push(buffer.ready('read').finally(() => fence[Symbol.dispose]()));
      }
      const settled = Promise.allSettled(waits);
      await turn();
      assert.deepEqual(beyondStandard(listingOfChild()), []);
      const one = listingOfChild(['ignore', 'pipe', 'inherit', buffer.fd]);
      assert.equal(beyondStandard(one).length, 1);
      assert.match(one, / 3 -> \/dmabuf:/);
      mapping.unmap();
      lent.release();
      pool.close();
      for (const object of objects) object.close();
      closeSync(fd);
      await settled;
      await assertNothingLeft();
    },
  },
  {
    name: 'process.execve() leaves the next program nothing',
    skip: 'execve' in process ? false : 'process.execve() is of Node.js 23',
    async run() {
      const child = start('become ls');
      const chunks: Buffer[] = [];
      child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
      await once(child, 'close');
      assert.equal(child.exitCode, 0);
      const listing = Buffer.concat(chunks).toString();
      assert.match(listing, / 1 -> /);
      assert.deepEqual(beyondStandard(listing), []);
    },
  },
  {
    name: 'channels that were sent through each other, with buffers, go when nobody holds an end',
    async run() {
      const [a, b] = DmaBufChannel.pair();
      const [c, d] = DmaBufChannel.pair();
      const inodes: number[] = [];
      for (const [through, ends] of [
        [a, [c, d]],
        [c, [a, b]],
        [a, [a, b]],
        [d, [d, c]],
      ] as const) {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        await through.send('ends', [buffer, ...ends.map(({ fd }) => fd)]);
        buffer.close();
      }
      if (noKernelList === false) assert.ok(inodes.every(kernelHas));
      for (const end of [a, b, c, d]) end.close();
      // The kernel looks for such circles when a Unix socket is closed, and in the background.
      if (noKernelList === false) {
        await until(() => {
          for (const end of DmaBufChannel.pair()) end.close();
          return !inodes.some(kernelHas);
        }, 'the buffers in the circle are freed');
      }
      await assertNothingLeft();
    },
  },
];
