// What a process can be in the middle of when it ends. The table of stages and endings is in stages.test.ts.

import assert from 'node:assert/strict';
import { accessSync, constants, existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allocate, allocateSync, DmaBuf, DmaBufChannel, DmaBufPool, DmaHeap, SyncFile } from 'dmabuf';
import { abstractName } from '../support/abstract-name.js';
import { turns, watch } from '../support/event-loop.js';
import { addFence, type Fence, noFences } from '../support/fences.js';
import { keep, newBuffer, pendingFor, size } from './kept.js';
import type { Group, Reachable, Stage, Standing } from './stage.js';
import { idleStreams, waitingStreams } from './stream-stages.js';

function busyBuffer(): [DmaBuf, Fence] {
  const buffer = newBuffer();
  return [buffer, keep(addFence(buffer, 'write'))];
}

/** Calls that wait for a fence of the buffer's. */
function waitingFor(
  fence: Fence,
  buffer: DmaBuf,
  pending: Promise<unknown>[],
  again: () => unknown,
): Standing {
  return {
    inodes: [buffer.inode],
    pending,
    fences: [fence.number],
    finish: () => fence[Symbol.dispose](),
    again,
  };
}

/** A pair of channels through which a buffer has gone. */
async function usedPair(): Promise<{ here: DmaBufChannel; there: DmaBufChannel; buffer: DmaBuf }> {
  const [here, there] = keep(DmaBufChannel.pair());
  const buffer = newBuffer();
  await here.send('a buffer', [buffer, keep(buffer.exportSyncFile('read'))]);
  keep(await there.receive());
  return { here, there, buffer };
}

const somaxconn = '/proc/sys/net/core/somaxconn';

function noFullServer(): string | false {
  try {
    accessSync(somaxconn, constants.W_OK);
    return false;
  } catch (error) {
    return (error as Error).message;
  }
}

/** A server whose queue is full. These processes have a network namespace, and so this setting, to themselves. */
async function fullServer(): Promise<ReturnType<typeof DmaBufChannel.listen>> {
  writeFileSync(somaxconn, '1');
  const server = keep(DmaBufChannel.listen(abstractName()));
  writeFileSync(somaxconn, '4096');
  for (let queued = 0; queued < 2; queued++) keep(await DmaBufChannel.connect(server.path));
  return server;
}

/** cpuAccess() waits for a second fence, which came when the first had signalled. */
async function waitTwice(buffer: DmaBuf): Promise<{ access: Promise<unknown>; fence: Fence }> {
  const first = addFence(buffer, 'write');
  let second: Fence | undefined;
  const addAnother = (): void => {
    second ??= addFence(buffer, 'write');
  };
  const before = Array.from({ length: 5 }, () => buffer.ready('write').then(addAnother));
  const access = buffer.cpuAccess('write');
  const after = Array.from({ length: 5 }, () => buffer.ready('write').then(addAnother));
  first.signal();
  await Promise.all([...before, ...after]);
  await turns();
  return { access, fence: keep(second as unknown as Fence) };
}

/** Nothing is pending that could keep a process alive. */
const idle: readonly Reachable[] = [
  {
    name: 'a heap and buffers are open',
    withoutDescriptors: 'EMFILE',
    enter() {
      const heap = keep(DmaHeap.open('system'));
      const buffer = keep(heap.allocateSync(size));
      const copies = [keep(buffer.dup()), keep(DmaBuf.import(buffer.fd))];
      const from = existsSync('/dev/udmabuf') ? 'udmabuf' : 'system';
      const other = keep(allocateSync(size, { from }));
      return { inodes: [buffer.inode, other.inode], again: () => [...copies, keep(buffer.dup())] };
    },
  },
  {
    name: 'a buffer is mapped',
    enter() {
      const buffer = newBuffer();
      keep(buffer.map()).bytes.fill(7);
      keep(buffer.map({ offset: 4096, length: 4096 }));
      return { inodes: [buffer.inode], again: () => keep(buffer.map()).bytes.fill(8) };
    },
  },
  {
    name: 'the CPU accesses a buffer',
    enter() {
      const buffer = newBuffer();
      keep(buffer.cpuAccessSync('read-write')).bytes.fill(7);
      return { inodes: [buffer.inode], again: () => keep(buffer.cpuAccessSync('read')) };
    },
  },
  {
    name: 'a sync_file is open',
    skip: noFences,
    withoutDescriptors: 'EMFILE',
    enter() {
      const [buffer] = busyBuffer();
      const file = keep(buffer.exportSyncFile('write'));
      keep(SyncFile.merge('both', file, keep(buffer.exportSyncFile('read'))));
      return { inodes: [buffer.inode], again: () => buffer.exportSyncFile('read') };
    },
  },
  {
    name: 'a pool has lent all its buffers, and acquire() waits',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const pool = keep(new DmaBufPool(size, { max: 1 }));
      const lent = keep(await pool.acquire());
      await pendingFor([pool.acquire()]); // keeps no process alive: nobody but itself can end the wait
      return {
        inodes: [lent.buffer.inode],
        again: () => keep(new DmaBufPool(size)).acquire(),
      };
    },
  },
  {
    name: 'a channel is open',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const { buffer } = await usedPair();
      return { inodes: [buffer.inode], again: () => DmaBufChannel.pair() };
    },
  },
  {
    name: 'messages with buffers wait to be received',
    withoutDescriptors: 'ERR_DMABUF_MESSAGE_TRUNCATED',
    async enter() {
      const [here, there] = keep(DmaBufChannel.pair());
      const inodes: number[] = [];
      for (let index = 0; index < 10; index++) {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        await here.send('a buffer', [buffer, buffer]);
        buffer.close();
      }
      here.close();
      return { inodes, again: () => there.receive() };
    },
  },
  {
    name: 'a server listens, and connections wait for accept()',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const folder = mkdtempSync(join(tmpdir(), 'dmabuf-stage-'));
      const server = keep(DmaBufChannel.listen(join(folder, 'socket')));
      const inodes: number[] = [];
      for (let index = 0; index < 3; index++) {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        await keep(await DmaBufChannel.connect(server.path)).send('a buffer', [buffer]);
        buffer.close();
      }
      return { inodes, again: () => server.accept() };
    },
  },
];

/** Waits for a peer. */
const sockets: readonly Reachable[] = [
  {
    name: 'receive() waits for a message',
    async enter() {
      const { here, there, buffer } = await usedPair();
      const { signal } = new AbortController();
      const calls = [there.receive(), there.receive({ timeout: 1_000_000 }), there.receive({ signal })];
      const pending = await pendingFor(calls);
      return {
        inodes: [buffer.inode],
        pending,
        finish: () => here.close(),
        async again() {
          await here.send('a buffer', [buffer]);
          return pending[0];
        },
      };
    },
  },
  {
    name: 'for await waits for a message',
    async enter() {
      const { here, there, buffer } = await usedPair();
      let count = 0;
      const loop = (async () => {
        for await (const message of there) {
          keep(message);
          count++;
        }
      })();
      await pendingFor([loop]);
      return {
        inodes: [buffer.inode],
        pending: [loop],
        finish: () => here.close(),
        async again() {
          await here.send('a buffer', [buffer]);
          while (count === 0) await turns(1);
        },
      };
    },
  },
  {
    name: 'send() waits with buffers, since the peer does not read',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const [here, there] = keep(DmaBufChannel.pair());
      const data = new Uint8Array(100_000);
      const inodes: number[] = [];
      const send = (): Promise<void> => {
        const buffer = allocateSync(size);
        inodes.push(buffer.inode);
        const sent = here.send(data, [buffer]);
        buffer.close(); // the message has its own
        return sent;
      };
      await send();
      const calls = Array.from({ length: 6 }, send);
      const watched = calls.map(watch);
      await turns();
      const pending = calls.filter((_, index) => watched[index]?.state === 'pending');
      assert.ok(pending.length >= 3);
      return {
        inodes,
        pending,
        finish: () => there.close(),
        again: () => here.send(data, [0]),
      };
    },
  },
  {
    name: 'accept() waits for a connection',
    async enter() {
      const server = keep(DmaBufChannel.listen(abstractName()));
      const calls = [server.accept(), server.accept({ timeout: 1_000_000 })];
      const pending = await pendingFor(calls);
      return {
        inodes: [newBuffer().inode],
        pending,
        finish: () => server.close(),
        async again(free) {
          free();
          keep(await DmaBufChannel.connect(server.path));
          return pending[0];
        },
      };
    },
  },
  {
    name: 'for await waits for a connection',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const server = keep(DmaBufChannel.listen(abstractName()));
      const loop = (async () => {
        for await (const channel of server) keep(channel);
      })();
      await pendingFor([loop]);
      return {
        inodes: [newBuffer().inode],
        pending: [loop],
        finish: () => server.close(),
        async again(free) {
          free();
          keep(await DmaBufChannel.connect(server.path));
          return loop;
        },
      };
    },
  },
  {
    name: 'connect() waits for a server that is slow to accept',
    skip: noFullServer(),
    withoutDescriptors: 'EMFILE',
    async enter() {
      const server = await fullServer();
      const pending = await pendingFor([DmaBufChannel.connect(server.path)]);
      return {
        inodes: [newBuffer().inode],
        pending,
        finish: () => server.close(),
        again: () => pending[0],
      };
    },
  },
];

/** Waits for a device. */
const fences: readonly Reachable[] = [
  {
    name: 'ready() waits for a fence',
    async enter() {
      const [buffer, fence] = busyBuffer();
      const waits = [buffer.ready('read'), buffer.ready('write', { timeout: 1_000_000 })];
      const { signal } = new AbortController();
      const pending = await pendingFor([...waits, buffer.ready('read-write', { signal })]);
      return waitingFor(fence, buffer, pending, () => buffer.ready('read'));
    },
  },
  {
    name: 'cpuAccess() waits for a fence',
    async enter() {
      const [buffer, fence] = busyBuffer();
      const pending = await pendingFor([buffer.cpuAccess('write')]);
      return waitingFor(fence, buffer, pending, () => buffer.cpuAccess('read'));
    },
  },
  {
    name: 'cpuAccess() waits for a second fence',
    async enter() {
      const buffer = newBuffer();
      const { access, fence } = await waitTwice(buffer);
      const pending = await pendingFor([access]);
      return waitingFor(fence, buffer, pending, () => buffer.cpuAccess('read'));
    },
  },
  {
    name: 'SyncFile.wait() waits for a fence',
    async enter() {
      const [buffer, fence] = busyBuffer();
      const file = keep(buffer.exportSyncFile('write'));
      const pending = await pendingFor([file.wait(), file.wait({ timeout: 1_000_000 })]);
      return waitingFor(fence, buffer, pending, () => file.wait());
    },
  },
  {
    name: 'a pool has lent a buffer, and another waits in it for a device',
    withoutDescriptors: 'EMFILE',
    async enter() {
      const pool = keep(new DmaBufPool(size, { max: 2 }));
      const lent = keep(await pool.acquire());
      const busy = await pool.acquire();
      const fence = keep(addFence(busy.buffer, 'write'));
      const { inode } = busy.buffer;
      busy.release();
      const pending = await pendingFor([pool.acquire()]);
      return {
        inodes: [lent.buffer.inode, inode],
        pending,
        fences: [fence.number],
        finish: () => fence[Symbol.dispose](),
        again: () => keep(new DmaBufPool(size)).acquire(),
      };
    },
  },
];

/** Something goes on. */
const busy: readonly Reachable[] = [
  {
    name: 'allocations run on the thread pool',
    withoutDescriptors: 'EMFILE',
    enter() {
      // Odd, and as good as this process's own.
      const odd = (1024 + (process.pid % 1024)) * 4096;
      let over = false;
      const allocateOn = async (): Promise<void> => {
        while (!over) (await allocate(odd)).close();
      };
      return {
        inodes: [],
        size: odd,
        pending: Array.from({ length: 8 }, allocateOn),
        finish: () => {
          over = true;
        },
        again: () => allocate(size),
      };
    },
  },
  {
    name: 'buffers go back and forth',
    withoutDescriptors: 'EMFILE',
    enter() {
      const [here, there] = keep(DmaBufChannel.pair());
      const [first, second] = [newBuffer(), newBuffer()];
      let over = false;
      const passOn = async (channel: DmaBufChannel): Promise<void> => {
        try {
          for await (const { handles } of channel) {
            if (over) return;
            await channel.send('next', handles).finally(() => {
              for (const handle of handles) (handle as DmaBuf).close();
            });
          }
        } finally {
          channel.close();
        }
      };
      const begin = here.send('first', [first, second]).then(() => there.send('second', [second]));
      return {
        inodes: [first.inode, second.inode],
        pending: [begin, passOn(here), passOn(there)],
        finish: () => {
          over = true;
        },
        again: () => DmaBufChannel.pair(),
      };
    },
  },
];

function inGroup(group: Group, stages: readonly Reachable[]): Stage[] {
  return stages.map((stage) => ({ ...stage, group }));
}

export const stages: readonly Stage[] = [
  ...inGroup('idle', idle),
  ...inGroup('idle', idleStreams),
  ...inGroup('sockets', sockets),
  ...inGroup('sockets', waitingStreams),
  ...inGroup(
    'fences',
    fences.map((stage) => ({ ...stage, skip: noFences })),
  ),
  ...inGroup('busy', busy),
];

/** The names of the stages of a group, or of all, that can be reached here. */
export function possibleStages(group?: Group): string[] {
  return stages
    .filter((stage) => (stage.skip ?? false) === false && (group === undefined || stage.group === group))
    .map(({ name }) => name);
}

/** Whether every stage gets a process and a worker of its own, for every ending: this takes four times as long. */
const apart = process.env.DMABUF_TEST_STAGES === 'apart';

/** The stages that a process, or a worker, which ends at this one is at as well. */
export function together({ name, group }: Stage): string[] {
  return apart ? [name] : possibleStages(group);
}
