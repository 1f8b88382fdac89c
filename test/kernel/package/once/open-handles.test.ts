import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  allocate,
  allocateSync,
  type ChannelMessage,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  DmaBufPool,
  DmaHeap,
  importFrom,
  type OpenHandle,
  openHandles,
  SyncFile,
  setHandleTracking,
} from 'dmabuf';
import { abstractName } from '../../../support/abstract-name.js';
import { channelTest } from '../../../support/channel-test.js';
import { fill, Pair } from '../../../support/channels.js';
import { replaceByStranger, reuse } from '../../../support/descriptors.js';
import { collectUntil, turns } from '../../../support/event-loop.js';
import { throwsCode, unsound } from '../../../support/expect.js';
import { hasKernel } from '../../../support/kernel-test.js';
import { next } from '../../../support/messages.js';
import type { TrackingReport } from '../../../support/programs/tracks.js';
import { runProgram } from '../../../support/programs.js';

const here = import.meta.url;

/** The only handle that is open. */
function only(): OpenHandle {
  const handles = openHandles();
  assert.equal(handles.length, 1, JSON.stringify(handles));
  return handles[0] as OpenHandle;
}

/** Runs `fn` while tracking is on. */
async function tracked(fn: () => void | Promise<void>): Promise<void> {
  setHandleTracking(true);
  try {
    await fn();
  } finally {
    setHandleTracking(false);
  }
}

// ---- what is listed

channelTest('nothing is listed when nothing is open', () => assert.deepEqual(openHandles(), []));

channelTest('a DmaBuf is listed with descriptor, inode, size, exporter and mappings', () => {
  using buffer = allocateSync(8192);
  assert.deepEqual(only(), {
    type: 'DmaBuf',
    fd: buffer.fd,
    inode: buffer.inode,
    size: 8192,
    exporter: 'system',
    mappings: 0,
  });
});

channelTest('a DmaBuf that nobody has looked at yet is listed all the same, and stays usable', () => {
  using buffer = allocateSync(8192);
  const { fd, inode, size } = only();
  assert.deepEqual([fd, inode, size], [buffer.fd, buffer.inode, buffer.size]);
  buffer.write(Buffer.from('x'));
});

channelTest('a name is listed, as it is now', () => {
  using buffer = allocateSync(4096, { name: 'frame 1' });
  assert.equal(only().name, 'frame 1');
  buffer.setName('frame 2');
  assert.equal(only().name, 'frame 2');
});

channelTest('mappings are counted, that of CPU access among them', () => {
  using buffer = allocateSync(8192);
  const first = buffer.map();
  const second = buffer.map({ offset: 4096 });
  assert.equal(only().mappings, 2);
  buffer.withCpuAccessSync('read', () => {});
  assert.equal(only().mappings, 3);
  first.unmap();
  second.unmap();
  assert.equal(only().mappings, 1);
});

channelTest("a udmabuf's exporter is told", () => {
  const memfd = createMemfd(4096);
  using _buffer = DmaBuf.fromMemfd(memfd);
  closeSync(memfd);
  assert.deepEqual([only().exporter, only().size], ['udmabuf', 4096]);
});

channelTest('heaps, sync_files, channels and servers are listed with type and descriptor', () => {
  using buffer = allocateSync(4096);
  using heap = DmaHeap.open('system');
  using file = buffer.exportSyncFile('read');
  using pair = new Pair();
  using server = DmaBufChannel.listen(abstractName());
  const others = openHandles().filter(({ type }) => type !== 'DmaBuf');
  const byFd = (one: { fd: number }, other: { fd: number }): number => one.fd - other.fd;
  assert.deepEqual(
    others.sort(byFd),
    [
      { type: 'DmaHeap', fd: heap.fd },
      { type: 'SyncFile', fd: file.fd },
      { type: 'DmaBufChannel', fd: pair.here.fd },
      { type: 'DmaBufChannel', fd: pair.there.fd },
      { type: 'DmaBufServer', fd: server.fd },
    ].sort(byFd),
  );
});

channelTest('what is closed, released or given away is not listed', async () => {
  const buffer = allocateSync(4096);
  const [one, other] = DmaBufChannel.pair();
  await one.send('x', [buffer]);
  buffer.close();
  closeSync(one.release());
  other[Symbol.dispose]();
  closeSync(allocateSync(4096).release());
  assert.deepEqual(openHandles(), []);
});

channelTest('copies, imports and adoptions are listed one by one', () => {
  using buffer = allocateSync(4096);
  using _copy = buffer.dup();
  using _imported = DmaBuf.import(buffer.fd);
  using _adopted = DmaBuf.adopt(buffer.dup().release());
  using _fromSelf = importFrom(process.pid, buffer.fd);
  const handles = openHandles();
  assert.equal(handles.length, 5);
  assert.deepEqual(new Set(handles.map(({ inode }) => inode)), new Set([buffer.inode]));
  assert.equal(new Set(handles.map(({ fd }) => fd)).size, 5);
});

channelTest('what arrived is listed, and what waits to be sent is not', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  await pair.here.send('x', [buffer, file, 0]);
  const before = openHandles().length;
  const { handles } = await next(pair.there);
  assert.equal(openHandles().length, before + 2);
  closeHandles(handles);
  await fill(pair.here);
  const sending = pair.here.send('x', [buffer, file]).catch(() => {});
  assert.equal(openHandles().length, before);
  pair.here.close();
  await sending;
});

channelTest('the buffers of a pool are listed, idle ones too', async () => {
  using pool = new DmaBufPool(4096, { max: 2 });
  const loans = [await pool.acquire(), await pool.acquire()];
  assert.equal(openHandles().length, 2);
  for (const loan of loans) loan.release();
  assert.equal(openHandles().filter(({ type }) => type === 'DmaBuf').length, 2);
  pool.close();
  assert.deepEqual(openHandles(), []);
});

channelTest('500 handles are listed', () => {
  const buffers = Array.from({ length: 500 }, () => allocateSync(4096));
  const fds = openHandles().map(({ fd }) => fd);
  assert.deepEqual(new Set(fds), new Set(buffers.map(({ fd }) => fd)));
  for (const buffer of buffers) buffer.close();
});

channelTest("a worker lists its own handles, and not the main thread's", async () => {
  using _buffer = allocateSync(4096);
  const code = `
    import { parentPort } from 'node:worker_threads';
    import { allocateSync, openHandles } from 'dmabuf';
    const before = openHandles().length;
    const buffer = allocateSync(4096);
    parentPort.postMessage([before, openHandles().length]);
    buffer.close();`;
  const url = new URL(
    `data:text/javascript,${encodeURIComponent(code.replace("'dmabuf'", JSON.stringify(import.meta.resolve('dmabuf'))))}`,
  );
  const worker = new Worker(url);
  const counts = await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await new Promise((resolve) => worker.once('exit', resolve));
  assert.deepEqual(counts, [0, 1]);
  assert.equal(openHandles().length, 1);
});

channelTest('the list is a copy: changing it changes nothing', () => {
  using _buffer = allocateSync(4096);
  openHandles().length = 0;
  only().fd = 4711;
  assert.notEqual(only().fd, 4711);
});

const hostile: readonly string[] = [
  '\x1b[2J\x1b]0;owned\x07',
  'a\nname:\tb\nexp_name:\tc',
  '"}],"',
  '‮txt.exe',
  '__proto__',
  '%s%n%d',
  'é'.repeat(15),
];
for (const name of hostile) {
  channelTest(`a buffer may be called ${JSON.stringify(name)}`, () => {
    using buffer = allocateSync(4096, { name });
    const { exporter, inode, name: listed } = only();
    assert.deepEqual([exporter, inode, listed], ['system', buffer.inode, name]);
  });
}

channelTest('a warning about a hostile name keeps to one line', async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  (() => {
    allocateSync(4096, { name: '\x1b[2J\nforged line' });
  })();
  await collectUntil(() => openHandles().length === 0);
  await turns();
  process.off('warning', onWarning);
  const [warning = ''] = warnings;
  assert.match(warning, /A DmaBuf of 4096 bytes \(inode \d+, system, "\\u001b\[2J\\nforged line"\)/);
  assert.ok(!warning.includes('\x1b') && !warning.includes('\n'));
});

// ---- descriptors that were closed behind their owners

const makers: readonly [string, () => { readonly fd: number; close(): void }][] = [
  ['DmaBuf', () => allocateSync(4096)],
  ['DmaHeap', () => DmaHeap.open('system')],
  ['SyncFile', makeSyncFile],
  ['DmaBufServer', () => DmaBufChannel.listen(abstractName())],
];

function makeSyncFile(): SyncFile {
  using buffer = allocateSync(4096);
  return buffer.exportSyncFile('read');
}

for (const [type, make] of makers) {
  channelTest(`a ${type} whose descriptor was closed behind it is listed without an error`, () => {
    const object = make();
    const { fd } = object;
    closeSync(fd);
    const handle = only();
    assert.equal(handle.type, type);
    assert.ok([fd, -1].includes(handle.fd));
    object.close();
  });

  channelTest(`a ${type} whose number is another file's is listed without an error`, () => {
    const object = make();
    const { fd } = object;
    replaceByStranger(fd);
    assert.equal(only().type, type);
    object.close();
    closeSync(fd);
  });
}

channelTest("a DmaBuf whose number is another buffer's is not described as that one", () => {
  using buffer = allocateSync(4096, { name: 'mine' });
  const { fd, inode } = buffer;
  reuse(fd, () => allocateSync(8192, { name: 'a stranger' }).release());
  const handle = only();
  assert.notEqual(handle.name, 'a stranger');
  assert.ok(handle.inode === undefined || handle.inode === inode);
  assert.ok(handle.size === undefined || handle.size === 4096);
  buffer.close();
  closeSync(fd);
});

channelTest('one handle that cannot be described does not hide the others', () => {
  using first = allocateSync(4096);
  using broken = allocateSync(4096);
  using last = allocateSync(4096);
  closeSync(broken.fd);
  const fds = openHandles().map(({ fd }) => fd);
  assert.equal(fds.length, 3);
  assert.ok(fds.includes(first.fd) && fds.includes(last.fd));
});

channelTest('listing does not make a handle leak or close', () => {
  const buffer = allocateSync(4096);
  for (let round = 0; round < 100; round++) openHandles();
  buffer.read(new Uint8Array(1));
  buffer.close();
  assert.deepEqual(openHandles(), []);
});

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

channelTest('what was made before tracking has no place, and what was made while it was off neither', () => {
  using _before = allocateSync(4096);
  setHandleTracking(true);
  using _while = allocateSync(4096);
  assert.deepEqual(
    openHandles().map(({ madeAt }) => madeAt !== undefined),
    [false, true],
  );
  setHandleTracking(false);
  assert.deepEqual(
    openHandles().map(({ madeAt }) => madeAt),
    [undefined, undefined],
  );
  setHandleTracking(true);
  assert.deepEqual(
    openHandles().map(({ madeAt }) => madeAt),
    [undefined, undefined],
  );
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
