// At the end of the stack any call fails, those of the library's own functions too: after the kernel has opened something
// and before anybody else knows of it.

import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import {
  allocateSync,
  type ChannelMessage,
  closeHandles,
  DmaBuf,
  DmaBufChannel,
  DmaHeap,
  FdStream,
  importFrom,
  openHandles,
  SyncFile,
} from 'dmabuf';
import { openFds } from '../../support/descriptors.js';
import { collectUntil } from '../../support/event-loop.js';
import { kernelTest } from '../../support/kernel-test.js';

/** Calls `operation` in the frames at the end of the stack until there is room for it. Says how often it failed. */
function atTheEnd(operation: () => void): number {
  let failures = 0;
  for (let round = 0; round < 3; round++) {
    let successes = 0;
    const down = (): void => {
      try {
        down();
      } catch {
        // The end.
      }
      if (successes > 2) return;
      try {
        operation();
        successes++;
      } catch {
        failures++;
      }
    };
    down();
  }
  return failures;
}

interface Fixture {
  heap: DmaHeap;
  buffer: DmaBuf;
  fences: SyncFile;
  /** Numbers that were released: the test's own from then on. */
  given: number[];
}

const operations: Record<string, (fixture: Fixture) => void> = {
  'DmaHeap.open': () => DmaHeap.open('system').close(),
  'DmaHeap.allocateSync': ({ heap }) => heap.allocateSync(4096).close(),
  allocateSync: () => allocateSync(4096, { name: 'deep' }).close(),
  'DmaBuf.import': ({ buffer }) => DmaBuf.import(buffer.fd).close(),
  'DmaBuf.dup': ({ buffer }) => buffer.dup().close(),
  'DmaBuf.release': ({ buffer, given }) => {
    given[given.length] = buffer.dup().release();
  },
  'DmaBuf.map': ({ buffer }) => buffer.map().unmap(),
  'DmaBuf.cpuAccessSync': ({ buffer }) => buffer.cpuAccessSync('read').end(),
  'DmaBuf.exportSyncFile': ({ buffer }) => buffer.exportSyncFile('read').close(),
  importFrom: ({ buffer }) => importFrom(process.pid, buffer.fd).close(),
  'SyncFile.import': ({ fences }) => SyncFile.import(fences.fd).close(),
  'SyncFile.merge': ({ fences }) => SyncFile.merge('deep', fences, fences, fences).close(),
  'DmaBufChannel.pair': () => {
    for (const end of DmaBufChannel.pair()) end.close();
  },
  'FdStream.pair': () => {
    for (const end of FdStream.pair()) end.close();
  },
};

for (const [name, operation] of Object.entries(operations)) {
  kernelTest(`${name} at the end of the stack loses nothing`, async () => {
    using heap = DmaHeap.open('system');
    using buffer = heap.allocateSync(4096);
    using fences = buffer.exportSyncFile('read');
    const given: number[] = [];
    const fixture = { heap, buffer, fences, given };
    operation(fixture);
    for (const fd of given.splice(0)) closeSync(fd);
    const handles = openHandles().length;
    const fds = openFds().size;
    assert.ok(atTheEnd(() => operation(fixture)) > 0);
    for (const fd of given) closeSync(fd);
    // What nobody claimed is closed by now, and what was half made when it is collected.
    await collectUntil(() => openHandles().length === handles && openFds().size === fds);
  });
}

for (const Class of [DmaBufChannel, FdStream]) {
  kernelTest(`${Class.name}.receive at the end of the stack loses nothing that was sent`, async () => {
    using buffer = allocateSync(4096);
    using fences = buffer.exportSyncFile('read');
    const [here, there] = Class.pair();
    const handles = openHandles().length;
    const fds = openFds().size;
    const calls: Promise<unknown>[] = [];
    atTheEnd(() => {
      calls[calls.length] = here.send('x', [buffer, fences, 0]);
      calls[calls.length] = there.receive({ timeout: 0 });
    });
    for (const outcome of await Promise.allSettled(calls)) {
      if (outcome.status === 'fulfilled' && outcome.value !== undefined) {
        closeHandles((outcome.value as ChannelMessage).handles);
      }
    }
    await collectUntil(() => openHandles().length === handles && openFds().size === fds);
    here.close();
    there.close();
  });
}
