import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { Duplex, Readable, Transform, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { allocateSync, type DmaBuf, FdStream, type SyncFile } from 'dmabuf';
import { channelTest } from '../../support/channel-test.js';
import { openNull } from '../../support/descriptors.js';
import { turns, watch } from '../../support/event-loop.js';
import { rejectsCode } from '../../support/expect.js';
import { closeEach, kindOf } from '../../support/handles.js';
import {
  allBytes,
  closed,
  failure,
  fillStream,
  inodeOf,
  nextBytes,
  nextBytesAsText,
  StreamPair,
  takeAll,
} from '../../support/streams.js';

// ---- send() and receive()

channelTest('bytes and descriptors arrive as objects of what they are', async () => {
  using pair = new StreamPair();
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('write');
  const other = openNull();
  await pair.here.send('a frame', [buffer, file, other]);
  closeSync(other);
  const { data, handles } = await nextBytes(pair.there);
  assert.equal(Buffer.from(data).toString(), 'a frame');
  assert.deepEqual(handles.map(kindOf), ['DmaBuf', 'SyncFile', 'number']);
  assert.equal((handles[0] as DmaBuf).inode, buffer.inode);
  assert.equal((handles[1] as SyncFile).status, file.status);
  closeEach(handles);
});

channelTest('without recognise, every descriptor is a number, both ways of reading', async () => {
  using pair = new StreamPair({ recognise: false });
  using buffer = allocateSync(4096);
  await pair.here.send('x', [buffer]);
  const { handles } = await nextBytes(pair.there);
  assert.deepEqual(handles.map(kindOf), ['number']);
  assert.equal(inodeOf(handles[0] as number), buffer.inode);
  closeEach(handles);
  await pair.here.send('y', [buffer]);
  await once(pair.there, 'readable');
  const taken = takeAll(pair.there);
  assert.deepEqual(taken.map(kindOf), ['number']);
  closeEach(taken);
});

channelTest('what two calls of send() have sent with descriptors arrives apart', async () => {
  using pair = new StreamPair();
  using first = allocateSync(4096);
  using second = allocateSync(4096);
  await pair.here.send('one', [first]);
  await pair.here.send('two', [second]);
  for (const [word, buffer] of [
    ['one', first],
    ['two', second],
  ] as const) {
    const { data, handles } = await nextBytes(pair.there);
    assert.deepEqual([Buffer.from(data).toString(), handles.map(inodeOf)], [word, [buffer.inode]]);
    closeEach(handles);
  }
});

channelTest(
  'what waits while others wait before it goes in order, whole, and its descriptors with it',
  async () => {
    using pair = new StreamPair();
    using buffer = allocateSync(4096);
    const filled = await fillStream(pair.here);
    const large = new Uint8Array(500_000).fill(0x79);
    const sending = [pair.here.send(large, [buffer]), pair.here.send('end', [buffer, buffer])];
    large.fill(0);
    pair.here.write('written');
    pair.here.end();
    const [all, handles] = await allBytes(pair.there);
    assert.equal(all.length, filled + 500_000 + 3 + 7);
    assert.equal(all.slice(filled), `${'y'.repeat(500_000)}endwritten`);
    assert.equal(handles, 3);
    await Promise.all(sending);
  },
);

channelTest('send() needs a byte for its descriptors, and at most 253 of these', async () => {
  using pair = new StreamPair();
  using buffer = allocateSync(4096);
  await rejectsCode(() => pair.here.send('', [buffer]), 'ERR_OUT_OF_RANGE');
  await rejectsCode(() => pair.here.send('x', new Array(254).fill(buffer)), 'ERR_OUT_OF_RANGE');
  await pair.here.send('');
  await pair.here.send('x', new Array(253).fill(buffer));
  const { data, handles } = await nextBytes(pair.there);
  closeEach(handles);
  assert.deepEqual([data.length, handles.length], [1, 253]);
});

channelTest('receive() is undefined at the end, again and again, and the Duplex ends with it', async () => {
  using pair = new StreamPair();
  const ended = once(pair.there, 'end');
  await pair.here.send('last');
  pair.here.end();
  assert.equal(await nextBytesAsText(pair.there), 'last');
  assert.equal(await pair.there.receive(), undefined);
  await ended;
  assert.equal(await pair.there.receive(), undefined);
  await pair.there.send('still there');
  assert.equal(await nextBytesAsText(pair.here), 'still there');
});

channelTest('receive() refuses what is being read as a stream', async () => {
  using pair = new StreamPair();
  pair.there.on('data', () => {});
  await turns();
  await rejectsCode(() => pair.there.receive(), 'EBUSY');
});

channelTest('calls of receive() are served in order', async () => {
  using pair = new StreamPair();
  const waiting = [1, 2, 3].map(() => nextBytes(pair.there));
  for (const word of ['a', 'b', 'c']) {
    await pair.here.send(word);
    await turns();
  }
  const words = (await Promise.all(waiting)).map(({ data }) => Buffer.from(data).toString());
  assert.deepEqual(words, ['a', 'b', 'c']);
});

// ---- the Duplex

channelTest('it is a Duplex', () => {
  using pair = new StreamPair({ highWaterMark: 1000 });
  assert.ok(pair.here instanceof Duplex && pair.here instanceof Readable && pair.here instanceof Writable);
  assert.deepEqual([pair.here.readableHighWaterMark, pair.there.writableHighWaterMark], [1000, 1000]);
});

channelTest('pipeline() goes through it both ways', async () => {
  using pair = new StreamPair();
  const upper = new Transform({ transform: (chunk, _, done) => done(null, String(chunk).toUpperCase()) });
  const served = pipeline(pair.there, upper, pair.there);
  const [answer] = await Promise.all([
    text(pair.here),
    pipeline(Readable.from([Buffer.alloc(300_000, 'a'), 'b']), pair.here),
    served,
  ]);
  assert.equal(answer, `${'A'.repeat(300_000)}B`);
});

channelTest('for await reads to the end, and destroys it', async () => {
  using pair = new StreamPair();
  pair.here.end('x'.repeat(100_000));
  let length = 0;
  for await (const chunk of pair.there) length += (chunk as Buffer).length;
  assert.deepEqual([length, pair.there.destroyed, pair.there.fd], [100_000, true, -1]);
});

channelTest('setEncoding() makes text of characters that are cut', async () => {
  using pair = new StreamPair();
  pair.there.setEncoding('utf8');
  const bytes = Buffer.from('é€😀'.repeat(1000));
  const reading = text(pair.there);
  for (let index = 0; index < bytes.length; index += 1001) {
    await pair.here.send(bytes.subarray(index, index + 1001));
  }
  pair.here.end();
  assert.equal(await reading, 'é€😀'.repeat(1000));
});

channelTest('back-pressure: write() says when it is enough, and drain when there is room', async () => {
  using pair = new StreamPair();
  await fillStream(pair.here);
  const drained = watch(once(pair.here, 'drain'));
  await turns();
  assert.equal(drained.state, 'pending');
  pair.there.resume();
  await once(pair.here, 'drain');
});

channelTest('back-pressure: what nobody reads is not read ahead beyond the high-water mark', async () => {
  using pair = new StreamPair({ highWaterMark: 1 });
  pair.there.once('readable', () => {});
  let sent = 0;
  while (pair.here.write(Buffer.alloc(8192))) sent++;
  await turns();
  assert.ok(pair.there.readableLength <= 65_536, `${pair.there.readableLength} bytes after ${sent} writes`);
});

channelTest('end() ends one half, with what was written and sent before', async () => {
  using pair = new StreamPair();
  await fillStream(pair.here);
  const sending = pair.here.send('sent');
  pair.here.end('the end');
  const all = await text(pair.there);
  assert.ok(all.endsWith('xsentthe end'));
  await sending;
  await rejectsCode(() => pair.here.send('more'), 'EPIPE');
});

channelTest('when both halves have ended, the descriptor is closed', async () => {
  using pair = new StreamPair();
  for (const end of [pair.here, pair.there]) {
    end.resume();
    end.end();
  }
  await Promise.all([closed(pair.here), closed(pair.there)]);
  assert.deepEqual([pair.here.fd, pair.there.fd], [-1, -1]);
});

channelTest('destroy() closes at once, tells once, and ends what waits', async () => {
  using pair = new StreamPair();
  const receiving = rejectsCode(() => pair.here.receive(), 'ERR_DMABUF_CLOSED');
  let told = 0;
  pair.here.on('close', () => told++);
  pair.here.destroy();
  assert.equal(pair.here.fd, -1);
  pair.here.destroy();
  await receiving;
  await turns();
  assert.equal(told, 1);
  await rejectsCode(() => pair.here.send('x'), 'ERR_DMABUF_CLOSED');
  await rejectsCode(() => pair.here.receive(), 'ERR_DMABUF_CLOSED');
  assert.equal(await pair.there.receive(), undefined);
});

channelTest(
  'destroy() ends calls of send() that wait, behind bytes or alone, and closes their descriptors',
  async () => {
    using pair = new StreamPair();
    using buffer = allocateSync(4096);
    await fillStream(pair.here);
    const behind = rejectsCode(() => pair.here.send('x', [buffer]), 'ERR_DMABUF_CLOSED');
    const also = rejectsCode(() => pair.here.send('y', [buffer]), 'ERR_DMABUF_CLOSED');
    pair.here.destroy();
    await Promise.all([behind, also]);
  },
);

channelTest('an asynchronous disposal waits until it is told', async () => {
  const [here, there] = FdStream.pair();
  await here[Symbol.asyncDispose]();
  assert.deepEqual([here.closed, here.fd], [true, -1]);
  there[Symbol.dispose]();
  await there[Symbol.asyncDispose]();
  assert.equal(there.closed, true);
});

channelTest('an error of writing is an event, and destroys it', async () => {
  using pair = new StreamPair();
  pair.there.destroy();
  const failed = failure(pair.here);
  pair.here.write('x');
  assert.equal((await failed).code, 'EPIPE');
  assert.equal(pair.here.destroyed, true);
});

channelTest('an error of send() is no event', async () => {
  using pair = new StreamPair();
  pair.there.destroy();
  await rejectsCode(() => pair.here.send('x'), 'EPIPE');
  await turns();
  assert.equal(pair.here.destroyed, false);
});

// ---- descriptors of the Duplex

channelTest('a descriptor is there when its bytes are, in order', async () => {
  using pair = new StreamPair();
  using first = allocateSync(4096);
  using second = allocateSync(4096);
  await pair.here.send('one', [first, second]);
  await pair.here.send('two', [second]);
  pair.here.end();
  const taken: number[] = [];
  let all = '';
  for await (const chunk of pair.there) {
    all += chunk;
    const handles = takeAll(pair.there);
    taken.push(...handles.map(inodeOf));
    closeEach(handles);
    if (all.startsWith('one')) assert.ok(taken.length >= 2);
    if (all === 'onetwo') assert.equal(taken.length, 3);
  }
  assert.deepEqual(taken, [first.inode, second.inode, second.inode]);
});

channelTest(
  'read() of more bytes than are there receives the rest, though no descriptor was taken',
  async () => {
    using pair = new StreamPair();
    using buffer = allocateSync(4096);
    await pair.here.send('abc', [buffer]);
    await once(pair.there, 'readable');
    assert.equal(pair.there.read(6), null);
    await pair.here.send('def', [buffer]);
    await once(pair.there, 'readable');
    assert.equal(String(pair.there.read(6)), 'abcdef');
    const handles = takeAll(pair.there);
    assert.deepEqual(handles.map(inodeOf), [buffer.inode, buffer.inode]);
    closeEach(handles);
  },
);

channelTest('takeHandle() is undefined where there is none, and once it is destroyed', async () => {
  using pair = new StreamPair();
  using buffer = allocateSync(4096);
  assert.equal(pair.there.takeHandle(), undefined);
  await pair.here.send('x', [buffer]);
  await once(pair.there, 'readable');
  pair.there.destroy();
  assert.equal(pair.there.takeHandle(), undefined);
});

channelTest('more unclaimed descriptors than maxHandles are an error, and are closed', async () => {
  using pair = new StreamPair({ maxHandles: 5 });
  using buffer = allocateSync(4096);
  await pair.here.send('x', [buffer, buffer, buffer, buffer, buffer]);
  const failed = failure(pair.there);
  pair.there.resume();
  await turns();
  assert.equal(pair.there.destroyed, false);
  await pair.here.send('y', [buffer]);
  const { code, message } = await failed;
  assert.equal(code, 'ERR_DMABUF_TOO_MANY_HANDLES');
  assert.match(message, /more than 5 descriptors .* takeHandle\(\).*maxHandles/);
});

channelTest('descriptors that are taken do not count', async () => {
  using pair = new StreamPair({ maxHandles: 2 });
  using buffer = allocateSync(4096);
  pair.there.on('data', () => closeEach(takeAll(pair.there)));
  for (let count = 0; count < 100; count++) await pair.here.send('x', [buffer, buffer]);
  await turns();
  assert.equal(pair.there.destroyed, false);
});

channelTest('1024 descriptors may wait where nothing else is said', async () => {
  using pair = new StreamPair();
  using buffer = allocateSync(4096);
  pair.there.resume();
  const failed = failure(pair.there);
  for (let count = 0; count < 8; count++) await pair.here.send('x', new Array(128).fill(buffer));
  await turns();
  assert.equal(pair.there.destroyed, false);
  await pair.here.send('x', [buffer]);
  assert.equal((await failed).code, 'ERR_DMABUF_TOO_MANY_HANDLES');
});
