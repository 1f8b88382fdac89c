import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import {
  allocate,
  allocateSync,
  type ChannelMessage,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  DmaHeap,
  FdStream,
  importFrom,
  type OpenHandle,
  openHandles,
  SyncFile,
  setHandleTracking,
} from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { Pair } from '../../../support/channels.js';
import { collectUntil, turns } from '../../../support/event-loop.js';
import { throwsCode, unsound } from '../../../support/expect.js';
import { hasKernel } from '../../../support/kernel-test.js';
import { next } from '../../../support/messages.js';
import { makeSyncFile, only } from '../../../support/own-handles.js';
import type { TrackingReport } from '../../../support/programs/tracks.js';
import { runProgram } from '../../../support/programs.js';

const here = import.meta.url;

/** Runs `fn` while tracking is on. */
async function tracked(fn: () => void | Promise<void>): Promise<void> {
  setHandleTracking(true);
  try {
    await fn();
  } finally {
    setHandleTracking(false);
  }
}

// ---- tracking

channelTest('without tracking no place is told', () => {
  using _buffer = allocateSync(4096);
  assert.equal('madeAt' in only(), false);
});

channelTest('setHandleTracking refuses what is no boolean, and changes nothing', () => {
  setHandleTracking(true);
  for (const bad of [undefined, null, 1, 0, 'true', {}, [], Object(true)]) {
    throwsCode(() => setHandleTracking(unsound(bad)), 'ERR_INVALID_ARG_TYPE');
  }
  using _buffer = allocateSync(4096);
  assert.ok(only().madeAt !== undefined);
  setHandleTracking(false);
});

/** Each makes one object, or several; what it returns closes them. */
const origins: readonly [string, () => Promise<() => void>][] = [
  ['allocateSync()', async () => closing(allocateSync(4096))],
  ['allocate()', async () => closing(await allocate(4096))],
  ['DmaHeap.open()', async () => closing(DmaHeap.open('system'))],
  ['DmaHeap.allocateSync()', () => withHeap(async (heap) => closing(heap.allocateSync(4096)))],
  ['DmaHeap.allocate()', () => withHeap(async (heap) => closing(await heap.allocate(4096)))],
  ['allocate() from udmabuf', async () => closing(await allocate(4096, { from: 'udmabuf' }))],
  ['DmaBuf.import()', () => withBuffer(async (buffer) => closing(DmaBuf.import(buffer.fd)))],
  ['DmaBuf.adopt()', () => withBuffer(async (buffer) => closing(DmaBuf.adopt(buffer.dup().release())))],
  ['DmaBuf.fromMemfd()', async () => closing(fromMemfd())],
  ['dup()', () => withBuffer(async (buffer) => closing(buffer.dup()))],
  ['importFrom()', () => withBuffer(async (buffer) => closing(importFrom(process.pid, buffer.fd)))],
  ['exportSyncFile()', () => withBuffer(async (buffer) => closing(buffer.exportSyncFile('read')))],
  ['SyncFile.import()', () => withFile(async (file) => closing(SyncFile.import(file.fd)))],
  ['SyncFile.merge()', () => withFile(async (file) => closing(SyncFile.merge('both', file, file)))],
  ['SyncFile.dup()', () => withFile(async (file) => closing(file.dup()))],
  ['DmaBufChannel.pair()', async () => closing(...DmaBufChannel.pair())],
  [
    'DmaBufChannel.adopt()',
    async () => {
      const [one, other] = DmaBufChannel.pair();
      other.close();
      return closing(DmaBufChannel.adopt(one.release()));
    },
  ],
  ['FdStream.pair()', async () => closing(...FdStream.pair())],
  ['FdStream.listen()', async () => closing(FdStream.listen(abstractName()))],
  ['DmaBufChannel.listen()', async () => closing(DmaBufChannel.listen(abstractName()))],
  ['DmaBufChannel.connect()', () => withServer(async (name) => closing(await DmaBufChannel.connect(name)))],
  [
    'accept() of who is there',
    () =>
      withServer(async (name, server) => {
        using _client = await DmaBufChannel.connect(name);
        return closing(await server.accept());
      }),
  ],
  [
    'accept() after waiting',
    () =>
      withServer(async (name, server) => {
        const accepting = server.accept();
        await turns();
        using _client = await DmaBufChannel.connect(name);
        return closing(await accepting);
      }),
  ],
  [
    'accepting in a loop',
    () =>
      withServer(async (name, server) => {
        const connecting = turns().then(() => DmaBufChannel.connect(name));
        for await (const channel of server) {
          (await connecting).close();
          return closing(channel);
        }
        return () => {};
      }),
  ],
  [
    'receive() of what is there',
    () =>
      withMessage(true, async (there) => {
        const { handles } = await next(there);
        return () => closeHandles(handles);
      }),
  ],
  [
    'receive() after waiting',
    () =>
      withMessage(false, async (there) => {
        const { handles } = await next(there);
        return () => closeHandles(handles);
      }),
  ],
  [
    'receiving in a loop',
    () =>
      withMessage(false, async (there) => {
        for await (const { handles } of there) return () => closeHandles(handles);
        return () => {};
      }),
  ],
];

function closing(...objects: { close(): void }[]): () => void {
  return () => {
    for (const object of objects) object.close();
  };
}

async function withHeap<T>(fn: (heap: DmaHeap) => Promise<T>): Promise<T> {
  using heap = DmaHeap.open('system');
  return await fn(heap);
}

async function withBuffer<T>(fn: (buffer: DmaBuf) => Promise<T>): Promise<T> {
  using buffer = allocateSync(4096);
  return await fn(buffer);
}

async function withFile<T>(fn: (file: SyncFile) => Promise<T>): Promise<T> {
  using file = makeSyncFile();
  return await fn(file);
}

function fromMemfd(): DmaBuf {
  const memfd = createMemfd(4096);
  try {
    return DmaBuf.fromMemfd(memfd);
  } finally {
    closeSync(memfd);
  }
}

async function withServer<T>(
  fn: (name: string, server: ReturnType<typeof DmaBufChannel.listen>) => Promise<T>,
): Promise<T> {
  const name = abstractName();
  using server = DmaBufChannel.listen(name);
  return await fn(name, server);
}

/** Sends a buffer and a sync_file to the channel, now or when it has begun to wait. */
async function withMessage<T>(now: boolean, fn: (there: DmaBufChannel) => Promise<T>): Promise<T> {
  using pair = new Pair();
  const send = async (): Promise<void> => {
    using buffer = allocateSync(4096);
    using file = buffer.exportSyncFile('read');
    await pair.here.send('x', [buffer, file]);
  };
  if (now) await send();
  const [result] = await Promise.all([fn(pair.there), now ? undefined : turns().then(send)]);
  return result;
}

for (const [what, make] of origins) {
  channelTest(`while tracking, ${what} is told with its place in the user's code first`, () =>
    tracked(async () => {
      async function placeInThisFile(): Promise<() => void> {
        return await make();
      }
      const close = await placeInThisFile();
      const handles = openHandles();
      close();
      assert.notEqual(handles.length, 0);
      for (const { type, madeAt } of handles) {
        const [first = '', ...rest] = (madeAt ?? '').split('\n');
        assert.ok(first.includes(here) || /test\/support/.test(first), `${type}: ${madeAt}`);
        assert.ok(
          [first, ...rest].some((frame) => frame.includes(here)),
          `${type}: ${madeAt}`,
        );
      }
    }),
  );
}

channelTest('the place of one object is not told of another that takes its number', () =>
  tracked(() => {
    function placeOfTheFirst(): void {
      allocateSync(4096).close();
    }
    placeOfTheFirst();
    using _second = allocateSync(4096);
    assert.doesNotMatch(only().madeAt ?? '', /placeOfTheFirst/);
  }),
);

/** Where an open buffer was made, as far as that is known. */
function placeOf(buffer: DmaBuf): string | undefined {
  const listed = openHandles().find(({ inode }) => inode === buffer.inode);
  assert.ok(listed);
  return listed.madeAt;
}

channelTest('what was made before tracking has no place, and what was made while it was off neither', () => {
  using before = allocateSync(4096);
  setHandleTracking(true);
  using meanwhile = allocateSync(4096);
  assert.equal(placeOf(before), undefined);
  assert.notEqual(placeOf(meanwhile), undefined);
  setHandleTracking(false);
  assert.deepEqual([placeOf(before), placeOf(meanwhile)], [undefined, undefined]);
  setHandleTracking(true);
  assert.deepEqual([placeOf(before), placeOf(meanwhile)], [undefined, undefined]);
  setHandleTracking(false);
});

channelTest('a number that was used while tracking was off brings no old place back', () => {
  setHandleTracking(true);
  const first = allocateSync(4096);
  setHandleTracking(false);
  first.close();
  using _second = allocateSync(4096);
  setHandleTracking(true);
  assert.equal(only().madeAt, undefined);
  setHandleTracking(false);
});

channelTest('of two receives that wait each is told with its own place', () =>
  tracked(async () => {
    using pair = new Pair();
    using buffer = allocateSync(4096);
    const first = (function firstReceiver() {
      return pair.there.receive();
    })();
    const second = (function secondReceiver() {
      return pair.there.receive();
    })();
    await pair.here.send('x', [buffer]);
    await pair.here.send('x', [buffer]);
    const messages = [await first, await second];
    for (const [index, name] of (['firstReceiver', 'secondReceiver'] as const).entries()) {
      const [handle] = (messages[index] as ChannelMessage).handles as [DmaBuf];
      const { madeAt } = openHandles().find(({ fd }) => fd === handle.fd) as OpenHandle;
      assert.match(madeAt ?? '', new RegExp(name));
    }
    for (const message of messages) closeHandles(message?.handles ?? []);
  }),
);

channelTest('tracking works without stack traces', () =>
  tracked(() => {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    try {
      using _buffer = allocateSync(4096);
      assert.equal(only().inode !== undefined, true);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
  }),
);

channelTest('tracking works where stack traces are no text', () =>
  tracked(() => {
    const { prepareStackTrace } = Error;
    Error.prepareStackTrace = (_error, sites) => sites;
    try {
      using _buffer = allocateSync(4096);
      assert.equal(only().type, 'DmaBuf');
    } finally {
      Error.prepareStackTrace = prepareStackTrace;
    }
    assert.deepEqual(openHandles(), []);
  }),
);

channelTest('tracking works where a stack trace throws', () =>
  tracked(() => {
    const { prepareStackTrace } = Error;
    Error.prepareStackTrace = () => {
      throw new Error('as a formatter may');
    };
    try {
      allocateSync(4096).close();
    } catch {
      // Then nothing was made.
    } finally {
      Error.prepareStackTrace = prepareStackTrace;
    }
    assert.deepEqual(openHandles(), []);
  }),
);

channelTest('the warning about a forgotten object names its place', async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  await tracked(async () => {
    (function forgetsToClose() {
      DmaBufChannel.listen(abstractName());
    })();
    await collectUntil(() => openHandles().length === 0);
    await turns();
  });
  process.off('warning', onWarning);
  assert.match(warnings.join(), /A DmaBufServer was garbage-collected[\s\S]*forgetsToClose/);
});

if (hasKernel) {
  for (const [debug, on] of [
    ['dmabuf', true],
    ['http,dmabuf', true],
    ['http', false],
    ['', false],
  ] as const) {
    const env = { ...process.env, NODE_DEBUG: debug };
    const observed = runProgram<TrackingReport>('tracks', { env });
    test(`NODE_DEBUG=${debug} has tracking ${on ? 'on' : 'off'} from the start`, () => {
      assert.equal(/atTheVeryStart/.test(observed.madeAt ?? ''), on, observed.madeAt);
    });
  }
}
