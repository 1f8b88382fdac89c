import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
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
import { drain, fill, Pair } from '../../../support/channels.js';
import { closeOnExec, flagsOf, openFds, openNull } from '../../../support/descriptors.js';
import { turns, until, watch } from '../../../support/event-loop.js';
import { addFence, fenceTest } from '../../../support/fences.js';
import { fdOf, fileOf, next, nextText } from '../../../support/messages.js';
import { buffers } from '../../../support/sending.js';
import { openStrangers } from '../../../support/strangers.js';

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
