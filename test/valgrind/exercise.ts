// What scripts/valgrind.mjs runs under valgrind: everything of the addon that works without a dma-buf, its refusals
// above all. Valgrind sees what the sanitizers do not: the use of memory that was never written, also by the kernel.

import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import {
  allocate,
  closeHandles,
  createMemfd,
  DmaBuf,
  DmaBufChannel,
  DmaHeap,
  FdStream,
  FdStreamServer,
  importFrom,
  openHandles,
  SyncFile,
} from 'dmabuf';
import { parseFdInfo, readFdInfo } from 'dmabuf/inspect';

const path = `/tmp/dmabuf-valgrind-${process.pid}.sock`;
const nothing = openSync('/dev/null', 'r');
const memfd = createMemfd(4096);

async function refused(...calls: (() => unknown)[]): Promise<void> {
  for (const call of calls) await assert.rejects(async () => call(), String(call));
}

async function exchange(count: number): Promise<void> {
  const [here, there] = DmaBufChannel.pair({ maxMessageSize: 100_000 });
  const sent: Promise<void>[] = [];
  for (let index = 0; index < count; index++) {
    const handles = new Array<number>(index % 5 === 0 ? 253 : index % 7).fill(index % 2 ? nothing : memfd);
    sent.push(here.send(`message ${index}`.padEnd(1 + ((index * 331) % 5000), '.'), handles));
  }
  for (let index = 0; index < count; index++) {
    const message = await there.receive();
    assert.ok(message);
    closeHandles(message.handles);
  }
  await Promise.all(sent);
  await refused(
    () => there.receive({ timeout: 1 }),
    () => there.receive({ signal: AbortSignal.timeout(1) }),
    () => here.send('x', [987_654]),
    () => here.send(new Uint8Array(200_000)),
  );
  const pending = there.receive();
  here.close();
  assert.equal(await pending, undefined);
  await refused(() => there.send('x'));
  closeSync(there.release());
}

async function serve(): Promise<void> {
  const server = DmaBufChannel.listen(path);
  await refused(
    () => DmaBufChannel.listen(path),
    () => DmaBufChannel.listen('/no/such/folder/socket'),
    () => DmaBufChannel.connect('/no/such/socket'),
    () => DmaBufChannel.adopt(server.fd),
    () => DmaBufChannel.adopt(nothing),
    () => server.accept({ timeout: 1 }),
  );
  const connecting = [DmaBufChannel.connect(path), DmaBufChannel.connect(path)];
  for (const client of connecting) {
    const channel = await server.accept();
    assert.equal(channel.peer.pid, process.pid);
    await channel.send('hello');
    assert.equal((await (await client).receive())?.data.length, 5);
    channel.close();
    (await client).close();
  }
  server.close();
  const named = DmaBufChannel.listen(`@${path}`);
  (await DmaBufChannel.connect(`@${path}`)).close();
  named.close();
}

async function stream(): Promise<void> {
  const server = FdStream.listen(path);
  await refused(
    () => FdStream.connect('/no/such/socket'),
    () => FdStream.adopt(nothing),
  );
  const client = await FdStream.connect(path, { retry: true });
  const accepted = await server.accept();
  await client.send('x', [nothing, memfd]);
  closeHandles((await accepted.receive())?.handles ?? []);
  const sending = Array.from({ length: 20 }, () => client.send(new Uint8Array(50_000), [memfd, nothing]));
  client.end();
  let length = 0;
  for await (const chunk of accepted) {
    length += (chunk as Buffer).length;
    for (let handle = accepted.takeHandle(); handle !== undefined; handle = accepted.takeHandle())
      closeHandles([handle]);
  }
  await Promise.all(sending);
  assert.equal(length, 1_000_000);
  client.destroy();
  accepted.destroy();
  server.close();
  await refused(() => FdStreamServer.adopt(nothing));
}

await exchange(300);
await serve();
await stream();
await refused(
  () => importFrom(process.pid, nothing),
  () => importFrom(process.pid, 987_654),
  () => DmaBuf.import(nothing),
  () => DmaBuf.adopt(nothing),
  () => DmaBuf.fromMemfd(nothing),
  () => SyncFile.import(nothing),
  () => SyncFile.adopt(memfd),
  () => DmaHeap.open('/dev/null'),
  () => DmaHeap.open('no-such-heap'),
  () => allocate(4096, { from: 'no-such-heap' }),
  () => readFdInfo('self', 987_654),
);
assert.equal(DmaBuf.isDmaBuf(memfd), false);
assert.equal(readFdInfo('self', memfd), undefined);
assert.equal(parseFdInfo('size:\t4096\ncount:\t2\nexp_name:\tsystem\nname:\ta\nb\n')?.name, 'a\nb');
closeSync(memfd);
closeSync(nothing);
assert.deepEqual(openHandles(), []);
