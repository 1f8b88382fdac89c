import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import {
  allocateSync,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  type Sendable,
  SyncFile,
} from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { adopt, drain, fill, Pair, withWmemMax } from '../../../support/channels.js';
import {
  closeOnExec,
  flagsOf,
  leavesNothing,
  notOpen,
  openFds,
  openNull,
  reuse,
} from '../../../support/descriptors.js';
import { turns, until, watch } from '../../../support/event-loop.js';
import { rejectsCode, rejectsWith, throwsCode, unsound } from '../../../support/expect.js';
import { addFence, fenceTest } from '../../../support/fences.js';
import { fdOf, fileOf, next, nextText } from '../../../support/messages.js';
import { notRoot } from '../../../support/needs.js';
import { ForeignSocket } from '../../../support/sockets.js';
import { openStrangers } from '../../../support/strangers.js';

/** Nothing was sent but what is sent now. */
async function assertNothingSent({ here, there }: Pair): Promise<void> {
  await here.send('the first');
  assert.equal(await nextText(there), 'the first');
}

function buffers(count: number): DmaBuf[] {
  return Array.from({ length: count }, () => allocateSync(4096));
}

// ---- what is refused

channelTest('an empty message without handles is refused, and nothing is sent', async () => {
  using pair = new Pair();
  for (const empty of [
    '',
    new Uint8Array(0),
    Buffer.alloc(8).subarray(8),
    new DataView(new ArrayBuffer(0)),
  ]) {
    await rejectsCode(() => pair.here.send(empty), 'ERR_OUT_OF_RANGE');
    await rejectsCode(() => pair.here.send(empty, []), 'ERR_OUT_OF_RANGE');
  }
  await assertNothingSent(pair);
});

channelTest('254 handles are refused with the figure, and nothing is sent', async () => {
  using pair = new Pair();
  const error = await rejectsCode(() => pair.here.send('x', new Array(254).fill(0)), 'ERR_OUT_OF_RANGE');
  assert.match(error.message, /253.*254/);
  await assertNothingSent(pair);
});

channelTest(
  'a number that is not open is refused with EBADF and the reason, wherever it stands',
  async () => {
    using pair = new Pair();
    using buffer = allocateSync(4096);
    for (const handles of [[notOpen], [buffer, notOpen], [notOpen, buffer], [0, notOpen, 0]]) {
      const error = await rejectsCode(() => pair.here.send('x', handles), 'EBADF');
      assert.deepEqual([error.errno, error.syscall], [-9, 'sendmsg']);
      assert.match(error.message, /not an open descriptor/);
    }
    await assertNothingSent(pair);
  },
);

channelTest('the largest number is refused with EBADF', async () => {
  using pair = new Pair();
  await rejectsCode(() => pair.here.send('x', [2 ** 31 - 1]), 'EBADF');
});

channelTest('a closed DmaBuf is refused, and nothing is sent', async () => {
  using pair = new Pair();
  const [closed, open] = buffers(2) as [DmaBuf, DmaBuf];
  closed.close();
  for (const handles of [[closed], [open, closed], [closed, open]]) {
    await rejectsCode(() => pair.here.send('x', handles), 'ERR_DMABUF_CLOSED');
  }
  open.close();
  await assertNothingSent(pair);
});

channelTest('a closed SyncFile is refused, and nothing is sent', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  const closed = buffer.exportSyncFile('read');
  closed.close();
  await rejectsCode(() => pair.here.send('x', [buffer, closed]), 'ERR_DMABUF_CLOSED');
  await assertNothingSent(pair);
});

channelTest('a DmaBuf whose number is now another file is refused, and nothing is sent', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  const { fd } = buffer;
  reuse(fd, openNull);
  await rejectsCode(() => pair.here.send('x', [buffer]), 'ERR_DMABUF_STALE_FD');
  closeSync(fd);
  await assertNothingSent(pair);
});

channelTest('a DmaBuf whose descriptor was closed behind it is refused with EBADF', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  closeSync(buffer.fd);
  await rejectsCode(() => pair.here.send('x', [buffer]), 'EBADF');
  await assertNothingSent(pair);
});

for (const full of [false, true]) {
  const state = full ? 'while the socket is full' : 'at once';
  channelTest(`a closed channel refuses to send ${state}`, async () => {
    using pair = new Pair();
    if (full) await fill(pair.here);
    pair.here.close();
    await rejectsCode(() => pair.here.send('x'), 'ERR_DMABUF_CLOSED');
  });

  channelTest(`a handle that is refused ${state} leaves no copies of those before it`, async () => {
    using pair = new Pair();
    const [open, closed] = buffers(2) as [DmaBuf, DmaBuf];
    closed.close();
    if (full) await fill(pair.here);
    await leavesNothing(async () => {
      await rejectsCode(() => pair.here.send('x', [open, closed]), 'ERR_DMABUF_CLOSED');
      await rejectsCode(() => pair.here.send('x', [open, notOpen]), 'EBADF');
    });
    open.close();
  });
}

// ---- data

const texts: readonly [string, string][] = [
  ['ASCII', 'frame 1'],
  ['UTF-8 of two, three and four bytes', 'é€🎞'],
  ['a NUL inside', 'a\0b\0'],
  ['a BOM', '\ufeffx'],
  ['a line end', 'a\r\n'],
];
for (const [what, text] of texts) {
  channelTest(`a string with ${what} arrives as UTF-8`, async () => {
    using pair = new Pair();
    await pair.here.send(text);
    assert.deepEqual((await next(pair.there)).data, new Uint8Array(Buffer.from(text)));
  });
}

channelTest('half a surrogate pair arrives as the replacement character', async () => {
  using pair = new Pair();
  await pair.here.send('a\ud83cb');
  assert.equal(await nextText(pair.there), 'a\ufffdb');
});

channelTest('all 256 values of a byte arrive intact', async () => {
  using pair = new Pair();
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  await pair.here.send(bytes);
  assert.deepEqual((await next(pair.there)).data, bytes);
});

function shared(text: string): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(text.length));
  bytes.set(Buffer.from(text));
  return bytes;
}

const views: readonly [string, () => ArrayBufferView][] = [
  ["a slice of Buffer's pool", () => Buffer.from('before data after').subarray(7, 11)],
  [
    'a Uint8Array in the middle of its ArrayBuffer',
    () => new Uint8Array(Buffer.from('..data..')).subarray(2, 6),
  ],
  ['a DataView', () => new DataView(Uint8Array.from(Buffer.from('..data..')).buffer, 2, 4)],
  ['a Float32Array', () => new Float32Array(Uint8Array.from(Buffer.from('data')).buffer)],
  ['a view of a SharedArrayBuffer', () => shared('data')],
  ['a Uint8Array of another realm', () => runInNewContext('Uint8Array.of(100, 97, 116, 97)') as Uint8Array],
  ['a Uint8Array of memory that can grow', () => growing('data')],
];
for (const full of [false, true]) {
  for (const [what, make] of views) {
    channelTest(`the bytes of ${what} are sent${full ? ' later' : ''}, and no others`, async () => {
      using pair = new Pair();
      const taken = full ? await fill(pair.here) : 0;
      const sending = pair.here.send(make());
      await drain(pair.there, taken);
      assert.equal(await nextText(pair.there), 'data');
      await sending;
    });
  }
}

/** A length-tracking view; an ordinary one before ES2024. */
function growing(text: string): Uint8Array {
  const Memory = ArrayBuffer as unknown as new (size: number, options: object) => ArrayBuffer;
  const bytes = new Uint8Array(new Memory(text.length, { maxByteLength: 1 << 16 }));
  bytes.set(Buffer.from(text));
  return bytes;
}

channelTest('memory that was transferred away has no bytes to send', async () => {
  using pair = new Pair();
  const bytes = new Uint8Array(8);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  await rejectsCode(() => pair.here.send(bytes), 'ERR_OUT_OF_RANGE');
});

channelTest('what the sender does to its bytes after send() does not change the message', async () => {
  using pair = new Pair();
  const bytes = Buffer.from('data');
  const atOnce = pair.here.send(bytes);
  bytes.fill('x');
  await atOnce;
  assert.equal(await nextText(pair.there), 'data');
});

channelTest('what the sender does to its bytes while they wait does not change the message', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const [changed, gone] = [Buffer.from('data'), new Uint8Array(Buffer.from('data'))];
  const sending = [pair.here.send(changed), pair.here.send(gone)];
  changed.fill('x');
  structuredClone(gone, { transfer: [gone.buffer] });
  await drain(pair.there, taken);
  assert.equal(await nextText(pair.there), 'data');
  assert.equal(await nextText(pair.there), 'data');
  await Promise.all(sending);
});

channelTest('a received message owns its bytes: the next one does not change them', async () => {
  using pair = new Pair();
  await pair.here.send('one');
  await pair.here.send('two');
  const first = await next(pair.there);
  await next(pair.there);
  assert.equal(Buffer.from(first.data).toString(), 'one');
  assert.equal(first.data.buffer.byteLength, 3);
});

channelTest('messages of one byte arrive one by one', async () => {
  using pair = new Pair();
  for (const text of 'abc') await pair.here.send(text);
  for (const text of 'abc') assert.equal(await nextText(pair.there), text);
});

// ---- sizes

const sizes: readonly [string, { maxMessageSize?: number }][] = [
  ['as the socket has it', {}],
  ['of 1 byte', { maxMessageSize: 1 }],
  ['of 1000 bytes', { maxMessageSize: 1000 }],
  ['of an odd number of bytes', { maxMessageSize: 300_001 }],
];
for (const [what, options] of sizes) {
  channelTest(`with maxMessageSize ${what}, exactly that passes, and one byte more is EMSGSIZE`, async () => {
    using pair = new Pair(options);
    const { maxMessageSize } = pair.here;
    assert.equal(maxMessageSize, options.maxMessageSize ?? maxMessageSize);
    const bytes = Buffer.alloc(maxMessageSize + 1, 'frame ');
    const error = await rejectsCode(() => pair.here.send(bytes), 'EMSGSIZE');
    assert.deepEqual([error.errno, error.syscall], [-90, 'sendmsg']);
    assert.match(error.message, new RegExp(`${maxMessageSize + 1} bytes.* ${maxMessageSize} `));
    const whole = bytes.subarray(0, maxMessageSize);
    await pair.here.send(whole);
    assert.equal(Buffer.compare((await next(pair.there)).data, whole), 0);
  });
}

channelTest('EMSGSIZE counts the bytes of a string, not its characters', async () => {
  using pair = new Pair({ maxMessageSize: 10 });
  await pair.here.send('ééééé');
  await rejectsCode(() => pair.here.send('éééééé'), 'EMSGSIZE');
  assert.equal(await nextText(pair.there), 'ééééé');
});

channelTest('the largest message takes handles besides', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  const { maxMessageSize } = pair.here;
  await pair.here.send(Buffer.alloc(maxMessageSize), new Array(253).fill(buffer));
  const { data, handles } = await next(pair.there);
  assert.deepEqual([data.length, handles.length], [maxMessageSize, 253]);
  closeHandles(handles);
});

/** Above this, unix_dgram_sendmsg() finds no memory whatever the limits are: KMALLOC_MAX_SIZE and a few pages. */
const kernelLimit = 4 << 20;

for (const [what, size] of [
  ['of 1 MiB', 1 << 20],
  ['of 3 MiB', 3 << 20],
  ['of 4 MiB', kernelLimit],
] as const) {
  channelTest(
    `root sends messages ${what}, whatever net.core.wmem_max is`,
    () =>
      withWmemMax(100_000, async () => {
        using pair = new Pair({ maxMessageSize: size });
        const bytes = Buffer.alloc(size, 'frame ');
        await pair.here.send(bytes);
        assert.equal(Buffer.compare((await next(pair.there)).data, bytes), 0);
      }),
    notRoot,
  );
}

channelTest(
  'a maxMessageSize of which the kernel never sends a message is refused',
  () => {
    for (const maxMessageSize of [16 << 20, 2 ** 30]) {
      throwsCode(() => DmaBufChannel.pair({ maxMessageSize }), 'ERR_OUT_OF_RANGE');
    }
  },
  notRoot,
);

channelTest('a small maxMessageSize of one end leaves the other end as it was', async () => {
  const [one, other] = ForeignSocket.pair();
  using small = adopt(one, { maxMessageSize: 100 });
  using large = adopt(other);
  assert.ok(large.maxMessageSize > 100_000);
  await large.send(Buffer.alloc(100));
  assert.equal((await next(small)).data.length, 100);
});

// ---- handles

channelTest('a dma-buf arrives as a DmaBuf of the same memory', async () => {
  using pair = new Pair();
  using buffer = allocateSync(8192, { name: 'frame' });
  await pair.here.send('x', [buffer]);
  const { handles } = await next(pair.there);
  const [arrived] = handles as [DmaBuf];
  assert.equal(arrived.constructor.name, 'DmaBuf');
  assert.deepEqual([arrived.inode, arrived.size, arrived.info().name], [buffer.inode, 8192, 'frame']);
  assert.notEqual(arrived.fd, buffer.fd);
  buffer.write(Buffer.from('shared'), 4096);
  const seen = Buffer.alloc(6);
  arrived.read(seen, 4096);
  assert.equal(seen.toString(), 'shared');
  arrived.close();
});

channelTest("a dma-buf's number arrives as a DmaBuf too", async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  await pair.here.send('x', [buffer.fd]);
  const { handles } = await next(pair.there);
  assert.equal((handles[0] as DmaBuf).inode, buffer.inode);
  closeHandles(handles);
});

fenceTest('a sync_file arrives as a SyncFile with its fence', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  using file = buffer.exportSyncFile('read');
  await pair.here.send('x', [file]);
  const { handles } = await next(pair.there);
  const [arrived] = handles as [SyncFile];
  assert.ok(arrived instanceof SyncFile);
  assert.equal(arrived.status, 'active');
  const waiting = watch(arrived.wait());
  await turns();
  assert.equal(waiting.state, 'pending');
  fence.signal();
  await until(() => waiting.state === 'fulfilled');
  assert.equal(arrived.status, 'signaled');
  arrived.close();
});

fenceTest('a sync_file that waits in line arrives with its fence', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  using fence = addFence(buffer, 'write');
  const file = buffer.exportSyncFile('read');
  const taken = await fill(pair.here);
  const sending = pair.here.send('x', [file]);
  file.close();
  await drain(pair.there, taken);
  await sending;
  const [arrived] = (await next(pair.there)).handles as [SyncFile];
  assert.equal(arrived.status, 'active');
  fence.signal();
  assert.equal(arrived.status, 'signaled');
  arrived.close();
});

channelTest('other open files arrive as numbers of the same files', async () => {
  const strangers = await openStrangers();
  using pair = new Pair();
  try {
    for (const [kind, fd] of strangers.fds) {
      await pair.here.send('x', [fd]);
      const { handles } = await next(pair.there);
      assert.equal(fileOf(handles[0] as Sendable), fileOf(fd), kind);
      closeHandles(handles);
    }
  } finally {
    strangers.close();
  }
});

channelTest('a memfd arrives as a number, of which a dma-buf can be made', async () => {
  using pair = new Pair();
  const memfd = createMemfd(4096);
  await pair.here.send('x', [memfd]);
  closeSync(memfd);
  const { handles } = await next(pair.there);
  using buffer = DmaBuf.fromMemfd(handles[0] as number);
  assert.equal(buffer.size, 4096);
  closeHandles(handles);
});

channelTest("a channel's own descriptor arrives as a number that can be adopted", async () => {
  using pair = new Pair();
  using other = new Pair();
  await pair.here.send('x', [other.there.fd]);
  const { handles } = await next(pair.there);
  other.there.close();
  using moved = DmaBufChannel.adopt(handles[0] as number);
  await other.here.send('follows');
  assert.equal(await nextText(moved), 'follows');
});

const descriptorFlags: readonly [string, number][] = [['a path of a dma-buf', 0o10000000]];
for (const [what, flags] of descriptorFlags) {
  for (const known of [false, true]) {
    channelTest(`${what} arrives as a number${known ? ' after a dma-buf' : ''}`, async () => {
      using pair = new Pair();
      using buffer = allocateSync(4096);
      const path = openSync(`/proc/self/fd/${buffer.fd}`, flags);
      const sendables = known ? [buffer, path] : [path];
      await pair.here.send('x', sendables);
      closeSync(path);
      const { handles } = await next(pair.there);
      assert.equal(typeof handles.at(-1), 'number');
      closeHandles(handles);
    });
  }
}

channelTest('a message without handles has none when it arrives', async () => {
  using pair = new Pair();
  await pair.here.send('a');
  await pair.here.send('b', []);
  assert.deepEqual((await next(pair.there)).handles, []);
  assert.deepEqual((await next(pair.there)).handles, []);
});

channelTest('empty data with a handle arrives as such', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  for (const empty of ['', new Uint8Array(0), Buffer.alloc(0)]) {
    await pair.here.send(empty, [buffer]);
    const { data, handles } = await next(pair.there);
    assert.deepEqual([data.length, handles.length], [0, 1]);
    closeHandles(handles);
  }
  await pair.here.send('still there');
  assert.equal(await nextText(pair.there), 'still there');
});

channelTest('empty data with a handle is not taken for the end when the sender is gone', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  await pair.here.send('', [buffer]);
  pair.here.close();
  closeHandles((await next(pair.there)).handles);
  assert.equal(await pair.there.receive(), undefined);
});

for (const count of [1, 2, 100, 252, 253]) {
  channelTest(`${count} handles arrive in order`, async () => {
    using pair = new Pair();
    const distinct = buffers(Math.min(count, 16));
    const sendables = Array.from(
      { length: count },
      (_, index) => distinct[index % distinct.length] as DmaBuf,
    );
    await pair.here.send('x', sendables);
    const { handles } = await next(pair.there);
    assert.deepEqual(handles.map(fileOf), sendables.map(fileOf));
    closeHandles(handles);
    closeHandles(distinct);
  });
}

const orders: readonly string[] = [
  'bsn',
  'bns',
  'sbn',
  'snb',
  'nbs',
  'nsb',
  'ssbbnn',
  'nsbnsb',
  'sss',
  'nnn',
  'bbb',
];
for (const full of [false, true]) {
  for (const order of orders) {
    const when = full ? ' after waiting' : '';
    channelTest(
      `buffers, sync_files and numbers in the order ${order} arrive in that order${when}`,
      async () => {
        using pair = new Pair();
        const taken = full ? await fill(pair.here) : 0;
        using buffer = allocateSync(4096);
        using file = buffer.exportSyncFile('read');
        const made = (letter: string): Sendable =>
          letter === 'b' ? buffer.dup() : letter === 's' ? file.dup() : openNull();
        const sendables = [...order].map(made);
        const expected = sendables.map(fileOf);
        const sending = pair.here.send('x', sendables);
        closeHandles(sendables);
        await drain(pair.there, taken);
        const { handles } = await next(pair.there);
        await sending;
        assert.deepEqual(handles.map(fileOf), expected);
        closeHandles(handles);
      },
    );
  }
}

channelTest('the same handle several times arrives as that many descriptors', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  await pair.here.send('x', [buffer, buffer, buffer.fd]);
  const { handles } = await next(pair.there);
  assert.equal(new Set(handles.map(fdOf)).size, 3);
  closeHandles(handles);
});

channelTest('everything that arrives is close-on-exec', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  await pair.here.send('x', [buffer, file, 0, buffer]);
  const { handles } = await next(pair.there);
  for (const handle of handles) assert.ok((flagsOf(fdOf(handle)) & closeOnExec) !== 0);
  closeHandles(handles);
});

channelTest('what is sent stays open and the same with the sender', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  const before = [fileOf(buffer), flagsOf(buffer.fd)];
  await pair.here.send('x', [buffer]);
  closeHandles((await next(pair.there)).handles);
  assert.deepEqual([fileOf(buffer), flagsOf(buffer.fd)], before);
});

channelTest('the sender may close at once', async () => {
  using pair = new Pair();
  const buffer = allocateSync(4096);
  const { inode } = buffer;
  const file = openNull();
  const sending = pair.here.send('x', [buffer, file]);
  buffer.close();
  closeSync(file);
  await sending;
  const { handles } = await next(pair.there);
  assert.equal((handles[0] as DmaBuf).inode, inode);
  closeHandles(handles);
});

channelTest('the sender may close while the message waits, and its numbers may become others', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const buffer = allocateSync(4096);
  const { inode, fd } = buffer;
  const file = openSync('/dev/zero', 'r');
  const expected = fileOf(file);
  const sending = pair.here.send('x', [buffer, file]);
  buffer.close();
  closeSync(file);
  await until(() => !openFds().has(fd));
  const [one, other] = [openNull(), openNull()];
  assert.ok([one, other].includes(fd), 'the number was not taken again');
  await drain(pair.there, taken);
  await sending;
  const { handles } = await next(pair.there);
  assert.deepEqual([(handles[0] as DmaBuf).inode, fileOf(handles[1] as Sendable)], [inode, expected]);
  closeHandles([...handles, one, other]);
});

channelTest(
  'an array of handles that changes while the message waits does not change the message',
  async () => {
    using pair = new Pair();
    const taken = await fill(pair.here);
    using buffer = allocateSync(4096);
    const handles: Sendable[] = [buffer, 0];
    const sending = pair.here.send('x', handles);
    handles.length = 0;
    await drain(pair.there, taken);
    await sending;
    const message = await next(pair.there);
    assert.equal(message.handles.length, 2);
    closeHandles(message.handles);
  },
);

channelTest('a message outlives its sender, with its handles', async () => {
  using pair = new Pair();
  const buffer = allocateSync(4096);
  const { inode } = buffer;
  buffer.write(Buffer.from('alive'));
  await pair.here.send('x', [buffer]);
  buffer.close();
  pair.here.close();
  const { handles } = await next(pair.there);
  const [arrived] = handles as [DmaBuf];
  const seen = Buffer.alloc(5);
  arrived.read(seen);
  assert.deepEqual([arrived.inode, seen.toString()], [inode, 'alive']);
  arrived.close();
});

channelTest('handles that nobody receives are closed with the channel', async () => {
  using buffer = allocateSync(4096);
  const before = buffer.info().references;
  const pair = new Pair();
  await pair.here.send('x', [buffer, buffer]);
  assert.equal(buffer.info().references, before + 2);
  pair.here.close();
  pair.there.close();
  await until(() => buffer.info().references === before);
});

// ---- back-pressure

channelTest('send() resolves only when the kernel has taken the message', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const sending = watch(pair.here.send('last'));
  await turns(20);
  assert.equal(sending.state, 'pending');
  await drain(pair.there, taken);
  await until(() => sending.state === 'fulfilled');
  assert.equal(await nextText(pair.there), 'last');
});

channelTest('a message that waits keeps its place before those sent after it', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const sending = ['a', 'b', 'c'].map((text) => pair.here.send(text));
  await drain(pair.there, taken);
  sending.push(pair.here.send('d')); // there is room now, and others wait
  await Promise.all(sending);
  sending.push(pair.here.send('e'));
  for (const text of 'abcde') assert.equal(await nextText(pair.there), text);
});

channelTest('a small message does not overtake a large one that waits', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const large = pair.here.send(Buffer.alloc(100_000));
  const small = pair.here.send('small');
  await drain(pair.there, taken);
  assert.equal((await next(pair.there)).data.length, 100_000);
  assert.equal(await nextText(pair.there), 'small');
  await Promise.all([large, small]);
});

channelTest('1000 sends that nobody awaits arrive in order', async () => {
  using pair = new Pair();
  const sending = Array.from({ length: 1000 }, (_, index) => pair.here.send(`frame ${index}`.padEnd(1000)));
  for (let index = 0; index < 1000; index++) {
    assert.equal((await nextText(pair.there)).trim(), `frame ${index}`);
  }
  await Promise.all(sending);
});

channelTest(
  '5000 sends of small messages keep their order where sending yields to the event loop',
  async () => {
    using pair = new Pair();
    const receiving = (async () => {
      for (let index = 0; index < 5000; index++) assert.equal(await nextText(pair.there), String(index));
    })();
    for (let index = 0; index < 5000; index++) void pair.here.send(String(index));
    await receiving;
  },
);

channelTest('100 sends with handles that nobody awaits arrive in order, and leave nothing', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  const sending = Array.from({ length: 100 }, (_, index) =>
    pair.here.send(`${index}`.padEnd(8000), [buffer, 0]),
  );
  for (let index = 0; index < 100; index++) {
    const { data, handles } = await next(pair.there);
    assert.equal(Number(Buffer.from(data).toString()), index);
    assert.deepEqual(
      handles.map((handle) => typeof handle),
      ['object', 'number'],
    );
    closeHandles(handles);
  }
  await Promise.all(sending);
});

channelTest('both directions can be full at once, and empty again', async () => {
  using pair = new Pair();
  const taken = [await fill(pair.here), await fill(pair.there)] as const;
  const sending = [pair.here.send('to there'), pair.there.send('to here')];
  await drain(pair.there, taken[0]);
  await drain(pair.here, taken[1]);
  assert.deepEqual([await nextText(pair.here), await nextText(pair.there)], ['to here', 'to there']);
  await Promise.all(sending);
});

channelTest('a full socket does not keep messages from being received', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const sending = pair.here.send('x');
  await pair.there.send('other way');
  assert.equal(await nextText(pair.here), 'other way');
  await drain(pair.there, taken);
  await sending;
});

// ---- ends of waiting

channelTest(
  'an abort ends a send that waits, with the very reason, and the message is not sent',
  async () => {
    using pair = new Pair();
    const taken = await fill(pair.here);
    const controller = new AbortController();
    const reason = new Error('no longer wanted');
    const sending = pair.here.send('aborted', [], { signal: controller.signal });
    const after = pair.here.send('after');
    controller.abort(reason);
    await rejectsWith(sending, reason);
    await drain(pair.there, taken);
    await after;
    assert.equal(await nextText(pair.there), 'after');
  },
);

channelTest('an abort at the moment when there is room again sends all or nothing', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const controller = new AbortController();
  const sending = watch(pair.here.send('aborted', [], { signal: controller.signal }));
  await drain(pair.there, taken);
  controller.abort(new Error('no longer wanted'));
  await until(() => sending.state !== 'pending');
  await pair.here.send('after');
  const expected = sending.state === 'fulfilled' ? 'aborted' : 'after';
  assert.equal(await nextText(pair.there), expected);
});

channelTest('a signal that has aborted already rejects with its reason, and nothing is sent', async () => {
  using pair = new Pair();
  const reason = { my: 'reason' };
  await rejectsWith(pair.here.send('x', [], { signal: AbortSignal.abort(reason) }), reason);
  await assertNothingSent(pair);
});

channelTest('an abort after the message was sent changes nothing', async () => {
  using pair = new Pair();
  const controller = new AbortController();
  await pair.here.send('x', [], { signal: controller.signal });
  controller.abort();
  assert.equal(await nextText(pair.there), 'x');
});

channelTest('a send that waits too long rejects with ETIMEDOUT, and the message is not sent', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  const error = await rejectsCode(() => pair.here.send('late', [], { timeout: 20 }), 'ETIMEDOUT');
  assert.match(error.message, /sending a message.*20 ms/);
  await drain(pair.there, taken);
  await assertNothingSent(pair);
});

channelTest('with timeout 0 a message is sent at once or not at all', async () => {
  using pair = new Pair();
  await pair.here.send('x', [], { timeout: 0 });
  assert.equal(await nextText(pair.there), 'x');
  await fill(pair.here);
  await rejectsCode(() => pair.here.send('x', [], { timeout: 0 }), 'ETIMEDOUT');
});

channelTest('the reason of an abort keeps its own stack', async () => {
  using pair = new Pair();
  await fill(pair.here);
  const controller = new AbortController();
  const reason = await rejectsCode(function aPlaceOfItsOwn() {
    return pair.here.send('x', [], { timeout: 1 });
  }, 'ETIMEDOUT');
  const { stack } = reason;
  const sending = pair.here.send('x', [], { signal: controller.signal });
  controller.abort(reason);
  await rejectsWith(sending, reason);
  assert.equal(reason.stack, stack);
});

channelTest('an error after waiting has the caller in its stack', async () => {
  using pair = new Pair();
  await fill(pair.here);
  async function callerOfSend(): Promise<void> {
    await pair.here.send('x', [], { timeout: 1 });
  }
  const error = await rejectsCode(callerOfSend, 'ETIMEDOUT');
  assert.match(error.stack ?? '', /callerOfSend/);
});

const endings: readonly [string, (pair: Pair, controller: AbortController) => void, string | undefined][] = [
  ['aborted', (_pair, controller) => controller.abort(new Error('enough')), undefined],
  ['ended by close()', (pair) => pair.here.close(), 'ERR_DMABUF_CLOSED'],
  ['ended by release()', (pair) => closeSync(pair.here.release()), 'ERR_DMABUF_CLOSED'],
  ['ended by the peer', (pair) => pair.there.close(), 'EPIPE'],
];
for (const [what, end, code] of endings) {
  channelTest(`a send that is ${what} while it waits closes the copies that it holds`, async () => {
    using pair = new Pair();
    await fill(pair.here);
    using buffer = allocateSync(4096);
    const before = buffer.info().references;
    const controller = new AbortController();
    const sending = watch(pair.here.send('x', [buffer, buffer], { signal: controller.signal }));
    assert.equal(buffer.info().references, before + 2);
    end(pair, controller);
    await until(() => sending.state !== 'pending');
    assert.equal(sending.state, 'rejected');
    if (code !== undefined) assert.equal((sending.value as { code?: string }).code, code);
    await until(() => buffer.info().references === before);
  });
}

channelTest('a send that times out while it waits closes the copies that it holds', async () => {
  using pair = new Pair();
  await fill(pair.here);
  using buffer = allocateSync(4096);
  const before = buffer.info().references;
  await rejectsCode(() => pair.here.send('x', [buffer], { timeout: 1 }), 'ETIMEDOUT');
  await until(() => buffer.info().references === before);
});

channelTest('close() rejects every send that waits', async () => {
  using pair = new Pair();
  await fill(pair.here);
  const sending = Promise.allSettled([1, 2, 3].map((number) => pair.here.send(`${number}`)));
  pair.here.close();
  for (const outcome of await sending) {
    assert.equal(outcome.status, 'rejected');
    assert.equal((outcome as PromiseRejectedResult).reason.code, 'ERR_DMABUF_CLOSED');
  }
});

channelTest('close() leaves what was sent to the peer', async () => {
  using pair = new Pair();
  const taken = await fill(pair.here);
  pair.here.close();
  await drain(pair.there, taken);
  assert.equal(await pair.there.receive(), undefined);
});

// ---- a peer that is gone

channelTest('sending to a peer that is gone is EPIPE with the reason, again and again', async () => {
  using pair = new Pair();
  pair.there.close();
  for (let round = 0; round < 3; round++) {
    const error = await rejectsCode(() => pair.here.send('x'), 'EPIPE');
    assert.deepEqual([error.errno, error.syscall], [-32, 'sendmsg']);
    assert.match(error.message, /peer has closed/);
  }
});

channelTest('a handle that cannot be sent to a peer that is gone leaves no copy', async () => {
  using pair = new Pair();
  using buffer = allocateSync(4096);
  pair.there.close();
  const before = buffer.info().references;
  await rejectsCode(() => pair.here.send('x', [buffer]), 'EPIPE');
  await until(() => buffer.info().references === before);
});

channelTest('sends that wait when the peer goes all reject with EPIPE', async () => {
  using pair = new Pair();
  await fill(pair.here);
  const sending = Promise.allSettled([1, 2, 3].map((number) => pair.here.send(`${number}`)));
  pair.there.close();
  for (const outcome of await sending) {
    assert.equal((outcome as PromiseRejectedResult).reason.code, 'EPIPE');
  }
});

channelTest('a peer that died with unread messages is EPIPE, never ECONNRESET', async () => {
  using pair = new Pair();
  await pair.here.send('unread');
  pair.there.close();
  await rejectsCode(() => pair.here.send('x'), 'EPIPE');
  await rejectsCode(() => pair.here.send('x'), 'EPIPE');
  assert.equal(await pair.here.receive(), undefined);
});

channelTest('EPIPE kills nobody: there is no SIGPIPE', async () => {
  using pair = new Pair();
  pair.there.close();
  let signals = 0;
  const count = (): void => {
    signals++;
  };
  process.on('SIGPIPE', count);
  await rejectsCode(() => pair.here.send('x'), 'EPIPE');
  await turns();
  process.off('SIGPIPE', count);
  assert.equal(signals, 0);
});

channelTest('a peer that no longer reads is EPIPE, and what it sends still arrives', async () => {
  const [one, other] = ForeignSocket.pair();
  using channel = adopt(one);
  using foreign = other;
  foreign.shutDown('read');
  await rejectsCode(() => channel.send('x'), 'EPIPE');
  foreign.send('still talking');
  assert.equal(await nextText(channel), 'still talking');
});

channelTest('a peer that no longer writes can still be sent to', async () => {
  const [one, other] = ForeignSocket.pair();
  using channel = adopt(one);
  using foreign = other;
  foreign.shutDown('write');
  assert.equal(await channel.receive(), undefined);
  await channel.send('still heard');
  using otherChannel = adopt(foreign);
  assert.equal(await nextText(otherChannel), 'still heard');
});

// ---- a descriptor that was closed behind the channel

channelTest('a channel whose descriptor was closed behind it says EBADF', async () => {
  using pair = new Pair();
  closeSync(pair.here.fd);
  await rejectsCode(() => pair.here.send('x'), 'EBADF');
  await rejectsCode(() => pair.here.receive(), 'EBADF');
});

channelTest(
  'a channel whose number is now another file says ERR_DMABUF_STALE_FD, and leaves that file alone',
  async () => {
    using pair = new Pair();
    const { fd } = pair.here;
    const [one, other] = ForeignSocket.pair();
    const others: number[] = [];
    closeSync(fd);
    // The lowest free number is taken first.
    const stranger = ForeignSocket.create('seqpacket');
    assert.equal(stranger.fd, fd);
    await rejectsCode(() => pair.here.send('x'), 'ERR_DMABUF_STALE_FD');
    await rejectsCode(() => pair.here.receive(), 'ERR_DMABUF_STALE_FD');
    assert.throws(() => pair.here.release(), { code: 'ERR_DMABUF_STALE_FD' });
    pair.here.close();
    assert.ok(openFds().has(fd));
    for (const end of [one, other, stranger]) end.close();
    for (const number of others) closeSync(number);
  },
);

channelTest('a send to oneself by mistake is an error of types, not a crash', async () => {
  using pair = new Pair();
  await rejectsCode(() => pair.here.send('x', [unsound(pair.here)]), 'ERR_INVALID_ARG_TYPE');
});
