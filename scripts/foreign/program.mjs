// What prove-foreign.mjs runs on the other machine, beside the installed package: checks what it says, and prints one line
// of JSON at the end. DMABUF_SOURCES: where buffers must come from there ('udmabuf system'); nothing without such a kernel.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { release } from 'node:os';
import { allocate, allocateSync, DmaBufChannel, DmaHeap, openHandles } from 'dmabuf';
import { parseFdInfo, snapshot } from 'dmabuf/inspect';

const { DMABUF_SOURCES = '', DMABUF_CHILD } = process.env;
const sources = DMABUF_SOURCES.split(' ').filter((name) => name !== '');
const { versions } = process;
/** How this runtime starts a program; its path and arguments follow. */
const execArgv = versions.deno ? ['run', '--allow-all'] : process.execArgv;
const size = 1 << 20;
const pattern = (index) => (index * 7 + (index >> 8)) & 0xff;
const bytesMatch = (bytes) => bytes.length === size && bytes.every((byte, index) => byte === pattern(index));

/** The addon's file that this process has loaded. */
function loaded() {
  const paths = readFileSync('/proc/self/maps', 'latin1').match(/\/\S*\.node$/gm);
  const [path, ...others] = new Set(paths);
  assert.deepEqual(others, []);
  return path.replace(/.*\/node_modules\//, '');
}

async function withoutBuffers() {
  assert.equal(createRequire(import.meta.url)('dmabuf').DmaHeap, DmaHeap);

  const text =
    'pos:\t0\nflags:\t02000002\nmnt_id:\t14\nino:\t9\nsize:\t8192\ncount:\t1\nexp_name:\tsystem\nname:\ta\nb\n';
  const info = { inode: 9, size: 8192, exporter: 'system', name: 'a\nb', references: 1, flags: 0o2000002 };
  assert.deepEqual(parseFdInfo(text), info);

  for (const heap of DmaHeap.list()) assert.match(heap.path, /^\/dev\/dma_heap\//);
  assert.throws(() => DmaHeap.open('no-such-heap'), { code: 'ENOENT', syscall: 'open' });
  assert.throws(() => DmaHeap.open(7), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => allocateSync(-1), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
  assert.throws(() => allocateSync(4096, { from: ['no-such-heap'] }), { code: 'ERR_DMABUF_NO_SOURCE' });
  await assert.rejects(allocate(4096, { from: ['no-such-heap'] }), { code: 'ERR_DMABUF_NO_SOURCE' });

  const [here, there] = DmaBufChannel.pair();
  await here.send('one');
  assert.equal(Buffer.from((await there.receive()).data).toString(), 'one');
  const message = there.receive();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await here.send('two');
  assert.equal(Buffer.from((await message).data).toString(), 'two');
  here.close();
  await assert.rejects(here.send('three'), { code: 'ERR_DMABUF_CLOSED' });
  there.close();
}

/** Has a buffer filled here, verified by a child process, and seen by the kernel; returns what saw it. */
async function withBuffers(source) {
  const buffer = await allocate(size, { from: [source], name: `proof-${source}` });
  assert.equal(buffer.source, source);
  const mapping = buffer.map({ access: 'write' });
  buffer.withCpuAccessSync('write', () => {
    for (let index = 0; index < size; index++) mapping.bytes[index] = pattern(index);
  });
  const copy = new Uint8Array(size);
  assert.equal(buffer.read(copy), size);
  assert.ok(bytesMatch(copy));
  assert.ok(buffer.withCpuAccessSync('read', bytesMatch));

  const { inode, name, exporter, ...info } = buffer.info();
  assert.deepEqual([name, info.size, inode], [`proof-${source}`, size, buffer.inode]);
  assert.equal(buffer.isReady('write'), true);
  await buffer.ready('read', { timeout: 1000 });

  const [mine, yours] = DmaBufChannel.pair();
  await mine.send('look', [buffer]);
  const child = spawn(process.execPath, [...execArgv, ...process.argv.slice(1)], {
    env: { ...process.env, DMABUF_CHILD: '1' },
    stdio: ['ignore', 'inherit', 'inherit', yours.fd],
  });
  const ended = once(child, 'exit');
  yours.close();
  assert.equal(Buffer.from((await mine.receive()).data).toString(), 'right');
  assert.deepEqual(await ended, [0, null]);
  mine.close();
  assert.equal(mapping.bytes[0], 255, 'what the child wrote');

  const views = ['procfs', ...(process.env.DMABUF_BPF ? ['bpf'] : [])];
  for (const view of views) {
    const { buffers, source: used } = await snapshot({ source: view });
    assert.deepEqual(used, [view]);
    const found = buffers.find((one) => one.inode === inode);
    assert.equal(found?.size, size, view);
    assert.equal(found.name, `proof-${source}`);
    assert.ok(found.holders.some(({ pid }) => pid === process.pid));
  }

  buffer.close();
  assert.equal(mapping.bytes.length, 0);
  const second = allocateSync(size, { from: [source] });
  assert.ok(second.withCpuAccessSync('read', (bytes) => bytes.every((byte) => byte === 0)));
  second.close();
  return { exporter, seenBy: views };
}

/** The child process, which has the channel as its descriptor 3. */
async function child() {
  const channel = DmaBufChannel.adopt(3);
  const {
    handles: [buffer],
  } = await channel.receive();
  assert.ok(buffer.withCpuAccessSync('read', bytesMatch));
  buffer.write(new Uint8Array([255]));
  buffer.close();
  await channel.send('right');
  channel.close();
}

async function all() {
  await withoutBuffers();
  const buffers = {};
  for (const source of sources) buffers[source] = await withBuffers(source);
  assert.deepEqual(openHandles(), []);
  const { arch } = process;
  const runtime = versions.deno
    ? `Deno ${versions.deno}`
    : versions.bun
      ? `Bun ${versions.bun}`
      : `Node ${versions.node}`;
  const heaps = DmaHeap.list().map(({ path }) => path);
  console.log(
    `proven: ${JSON.stringify({ arch, runtime, kernel: release(), addon: loaded(), heaps, buffers })}`,
  );
}

try {
  await (DMABUF_CHILD ? child() : all());
} catch (error) {
  console.log(error);
  process.exit(1);
}
