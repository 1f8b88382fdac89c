import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { allocateSync, closeHandles, type DmaBuf, DmaBufChannel } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { adopt, drain, fill, Pair, withWmemMax } from '../../../support/channels.js';
import { leavesNothing, notOpen, openNull, reuse } from '../../../support/descriptors.js';
import { rejectsCode, throwsCode } from '../../../support/expect.js';
import { next, nextText } from '../../../support/messages.js';
import { notRoot } from '../../../support/needs.js';
import { assertNothingSent, buffers } from '../../../support/sending.js';
import { ForeignSocket } from '../../../support/sockets.js';

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
