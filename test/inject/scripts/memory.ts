// Heaps, buffers, mappings, CPU access, memfds.

import { closeSync } from 'node:fs';
import { finished } from 'node:stream/promises';
import type { DmaBuf, PooledBuffer } from 'dmabuf';
import { asJson, patience, type Scripts, type Tools } from '../script.js';

/** A buffer of the script's own. */
function aBuffer({ core, own }: Tools, size = 8192): DmaBuf {
  return own(core.allocateSync(size, { from: 'system', name: 'scripted' }));
}

function aMemfd({ core, after }: Tools, size: number): number {
  const memfd = core.createMemfd(size);
  after(() => closeSync(memfd));
  return memfd;
}

const first = (buffer: DmaBuf): number => {
  const target = new Uint8Array(1);
  buffer.read(target);
  return target[0] as number;
};

export const memory: Scripts = {
  'DmaHeap.list': ({ core, begin }) => {
    begin();
    return core.DmaHeap.list()
      .map(({ name, kind }) => name + kind)
      .join();
  },
  'DmaHeap.open': ({ core, begin, own }) => {
    begin();
    const heap = own(core.DmaHeap.open('system'));
    return [heap.name, heap.path, heap.fd > 0, heap.closed];
  },
  'DmaHeap.allocateSync': ({ core, begin, own }) => {
    const heap = own(core.DmaHeap.open('system'));
    begin();
    return own(heap.allocateSync(4096, { name: 'x' })).size;
  },
  'DmaHeap.allocate': async ({ core, begin, own }) => {
    const heap = own(core.DmaHeap.open('system'));
    begin();
    return own(await heap.allocate(4096, { name: 'x' })).size;
  },
  'DmaBuf.createReadStream': async ({ buffer, begin }) => {
    begin();
    let length = 0;
    for await (const chunk of buffer.createReadStream({ length: 100 })) length += (chunk as Buffer).length;
    return length;
  },
  'DmaBuf.createWriteStream': async ({ buffer, begin }) => {
    begin();
    const stream = buffer.createWriteStream({ position: 100 });
    stream.end('abc');
    await finished(stream);
    return stream.writableFinished;
  },
  'DmaHeap.close': ({ core, begin }) => {
    const heap = core.DmaHeap.open('system');
    begin();
    heap.close();
    return heap.closed;
  },
  'allocateSync from a heap': ({ core, begin, own }) => {
    begin();
    return own(core.allocateSync(8192, { from: 'system', name: 'a' })).source;
  },
  'allocateSync from udmabuf': ({ core, begin, own }) => {
    begin();
    return own(core.allocateSync(8192, { from: 'udmabuf', name: 'u' })).source;
  },
  'allocateSync from any': ({ core, begin, own }) => {
    begin();
    return own(core.allocateSync(8192)).size;
  },
  'allocate from a heap': async ({ core, begin, own }) => {
    begin();
    return own(await core.allocate(8192, { from: 'system', name: 'a' })).source;
  },
  'allocate, large': async ({ core, begin, own }) => {
    begin();
    return own(await core.allocate(4 << 20, { from: 'system' })).size;
  },
  'allocate from udmabuf': async ({ core, begin, own }) => {
    begin();
    return own(await core.allocate(8192, { from: 'udmabuf', name: 'u' })).source;
  },
  'allocate from any': async ({ core, begin, own }) => {
    begin();
    return own(await core.allocate(8192)).size;
  },
  'DmaBuf.map': (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    const mapping = buffer.map({ offset: 4096, length: 4096 });
    mapping.bytes[0] = 1;
    return [
      mapping.bytes.length,
      mapping.offset,
      mapping.length,
      mapping.buffer.byteLength,
      mapping.closed,
      mapping.lost,
    ];
  },
  'DmaBufMapping.unmap': (tools) => {
    const mapping = aBuffer(tools).map();
    const view = mapping.bytes;
    view[0] = 9;
    tools.begin();
    mapping.unmap();
    return [mapping.closed, view[0]];
  },
  'DmaBuf.close': ({ core, begin }) => {
    const buffer = core.allocateSync(8192);
    buffer.withCpuAccessSync('write', (bytes) => void bytes.fill(1));
    begin();
    buffer.close();
    return buffer.closed;
  },
  'DmaBuf.close with mappings': ({ core, begin }) => {
    const buffer = core.allocateSync(16384);
    const mappings = [buffer.map(), buffer.map({ offset: 4096 })];
    begin();
    buffer.close();
    return [buffer.closed, mappings.every(({ closed }) => closed)];
  },
  'DmaBuf.withCpuAccessSync': (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    return buffer.withCpuAccessSync('read-write', (bytes) => {
      bytes[0] = 3;
      return bytes.length;
    });
  },
  'DmaBuf.withCpuAccessSync, whose function throws': (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    try {
      buffer.withCpuAccessSync('write', () => {
        throw new RangeError('of the user');
      });
    } catch (error) {
      if (error instanceof RangeError) return 'of the user';
      throw error;
    }
    return 'nothing thrown';
  },
  'DmaBuf.cpuAccessSync': (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    const access = buffer.cpuAccessSync('write');
    access.bytes[0] = 1;
    access.end();
    return access.access;
  },
  'DmaBuf.cpuAccess': async (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    const access = await buffer.cpuAccess('read');
    access.end();
    return access.access;
  },
  'DmaBuf.withCpuAccess': async (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    return await buffer.withCpuAccess('read-write', (bytes) => bytes.length);
  },
  'DmaBuf.read': (tools) => {
    const buffer = aBuffer(tools);
    buffer.write(new Uint8Array([5]));
    const target = new Uint8Array(8);
    tools.begin();
    return [buffer.read(target), target[0]];
  },
  'DmaBuf.text': (tools) => {
    const buffer = aBuffer(tools);
    buffer.write(Buffer.from('text'));
    tools.begin();
    return buffer.text({ length: 4 });
  },
  'DmaBuf.write': (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    const written = buffer.write(new Uint8Array([1, 2, 3]));
    tools.end();
    return [written, first(buffer)];
  },
  'DmaBuf.info': ({ buffer, begin }) => {
    begin();
    const { name, size, exporter } = buffer.info();
    return [name, size, exporter];
  },
  'DmaBuf.fd and what else it is': ({ buffer, begin }) => {
    begin();
    const { fd, size, inode, closed, source, lost, attempts } = buffer;
    return [fd > 0, size, inode > 0, closed, source, lost, attempts.length];
  },
  'DmaBuf, DmaHeap, DmaBufPool and what they lend, Memfd, as JSON': async (tools) => {
    const { core, own, after } = tools;
    const buffer = aBuffer(tools);
    const access = buffer.cpuAccessSync('read');
    after(() => access.end());
    const pool = own(new core.DmaBufPool(4096, { from: 'system', max: 1 }));
    const loan = await pool.acquire();
    after(() => loan.release());
    const memfd = own(core.Memfd.create(4096));
    const all = [own(core.DmaHeap.open('system')), buffer, buffer.map(), access, pool, loan, memfd];
    tools.begin();
    return asJson(...all);
  },
  'DmaBuf.pageSize': ({ core, begin }) => {
    begin();
    return core.DmaBuf.pageSize;
  },
  'DmaBuf.isDmaBuf': ({ core, buffer, begin }) => {
    begin();
    return core.DmaBuf.isDmaBuf(buffer.fd);
  },
  'DmaBuf.setName': (tools) => {
    const buffer = aBuffer(tools);
    tools.begin();
    buffer.setName('another');
    tools.end();
    return buffer.info().name;
  },
  'DmaBuf.dup': ({ buffer, begin, own }) => {
    begin();
    return own(buffer.dup()).size;
  },
  'DmaBuf.import': ({ core, buffer, begin, own }) => {
    begin();
    return own(core.DmaBuf.import(buffer.fd)).size;
  },
  'DmaBuf.adopt': ({ core, buffer, begin, own, after }) => {
    const fd = buffer.dup().release();
    let adopted = false;
    after(() => {
      if (!adopted) closeSync(fd);
    });
    begin();
    const made = own(core.DmaBuf.adopt(fd));
    adopted = true;
    return made.size;
  },
  'DmaBuf.release': ({ core, begin, own, after }) => {
    const buffer = own(core.allocateSync(4096));
    buffer.read(new Uint8Array(1));
    begin();
    const fd = buffer.release();
    after(() => closeSync(fd));
    return buffer.closed;
  },
  createMemfd: ({ core, begin, after }) => {
    begin();
    const memfd = core.createMemfd(8192, { name: 'scripted' });
    after(() => closeSync(memfd));
    return memfd > 0;
  },
  'Memfd.create': ({ core, begin, own }) => {
    begin();
    const memfd = own(core.Memfd.create(8192, { name: 'scripted' }));
    return [memfd.size, memfd.fd > 0, memfd.closed];
  },
  'Memfd.release': ({ core, begin, own, after }) => {
    const memfd = own(core.Memfd.create(8192));
    begin();
    const fd = memfd.release();
    after(() => closeSync(fd));
    return memfd.closed;
  },
  'DmaBuf.fromMemfd of a Memfd': ({ core, begin, own }) => {
    const memfd = own(core.Memfd.create(8192));
    begin();
    return own(core.DmaBuf.fromMemfd(memfd)).size;
  },
  'DmaBuf.fromMemfd': (tools) => {
    const memfd = aMemfd(tools, 8192);
    tools.begin();
    return tools.own(tools.core.DmaBuf.fromMemfd(memfd)).size;
  },
  'DmaBuf.fromMemfd of pieces': (tools) => {
    const memfd = aMemfd(tools, 16384);
    const pieces = [
      { offset: 8192, size: 4096 },
      { offset: 0, size: 4096 },
    ];
    tools.begin();
    return tools.own(tools.core.DmaBuf.fromMemfd(memfd, pieces)).size;
  },
  importFrom: async ({ core, buffer, begin, own }) => {
    begin();
    return own(await core.importFrom(process.pid, buffer.fd)).size;
  },
  'DmaBuf.importFrom': ({ core, buffer, begin, own }) => {
    begin();
    return own(core.DmaBuf.importFrom(process.pid, buffer.fd)).size;
  },
  openHandles: ({ core, begin }) => {
    begin();
    core.setHandleTracking(true);
    const count = core.openHandles().length;
    core.setHandleTracking(false);
    return count;
  },
  'DmaBufPool.acquire': async ({ core, begin, own, after }) => {
    const pool = own(new core.DmaBufPool(4096, { from: 'system', max: 2 }));
    const acquire = async (): Promise<PooledBuffer> => {
      const loan = await pool.acquire({ timeout: patience });
      after(() => loan.release());
      return loan;
    };
    begin();
    const one = await acquire();
    const two = await acquire();
    one.release();
    const three = await acquire();
    const released = one.released;
    two.release();
    three.release();
    return [released, pool.size, pool.max, pool.closed, pool.statistics().idle];
  },
  'DmaBufPool, zeroing': async ({ core, begin, end, own }) => {
    const pool = own(new core.DmaBufPool(4096, { from: 'system', max: 1, zero: true }));
    const loan = await pool.acquire();
    loan.buffer.write(new Uint8Array([7]));
    begin();
    loan.release();
    const again = await pool.acquire({ timeout: patience });
    end();
    const byte = first(again.buffer);
    again.release();
    return byte;
  },
  'DmaBufPool.trim': async ({ core, begin, own }) => {
    const pool = own(new core.DmaBufPool(4096, { from: 'system' }));
    (await pool.acquire()).release();
    begin();
    return pool.trim();
  },
  'DmaBufPool.close': async ({ core, begin, own }) => {
    const pool = own(new core.DmaBufPool(4096, { from: 'system' }));
    (await pool.acquire()).release();
    const loan = await pool.acquire();
    begin();
    pool.close();
    loan.release();
    return pool.closed;
  },
};
