// Sync files and waiting, with fences of the kernel's vgem module.

import { closeSync } from 'node:fs';
import type { DmaBuf, SyncFile } from 'dmabuf';
import { addFence, type Fence } from '../../support/fences.js';
import { asJson, patience, type Scripts, type Tools } from '../script.js';

/** A buffer that a device is still writing. */
function busyBuffer({ core, own, after }: Tools): { buffer: DmaBuf; fence: Fence } {
  const buffer = own(core.allocateSync(8192, { from: 'system' }));
  const fence = addFence(buffer, 'write');
  after(() => fence[Symbol.dispose]());
  return { buffer, fence };
}

function activeFile(tools: Tools): { file: SyncFile; fence: Fence } {
  const { buffer, fence } = busyBuffer(tools);
  return { file: tools.own(buffer.exportSyncFile('write')), fence };
}

export const fences: Scripts = {
  'DmaBuf.exportSyncFile': ({ buffer, begin, own }) => {
    begin();
    return own(buffer.exportSyncFile('write')).status;
  },
  'DmaBuf.importSyncFile': (tools) => {
    const { buffer, small, own, begin, core } = tools;
    const file = own(buffer.exportSyncFile('write'));
    begin();
    small.importSyncFile(file, 'write');
    return core.DmaBuf.isDmaBuf(small.fd);
  },
  'SyncFile.merge': (tools) => {
    const files = [1, 2, 3].map(() => activeFile(tools).file);
    tools.begin();
    const merged = tools.own(tools.core.SyncFile.merge('m', ...(files as [SyncFile, SyncFile])));
    tools.end();
    return merged.info().fences.length;
  },
  'SyncFile.mergeAsync, which closes what it has made': async (tools) => {
    const { file } = activeFile(tools);
    const files = Array<SyncFile>(18).fill(file); // two jobs, and one for what they make
    tools.begin();
    const merged = tools.own(await tools.core.SyncFile.mergeAsync('m', files));
    tools.end();
    return merged.info().fences.length;
  },
  'SyncFile.info, status, fd': (tools) => {
    const { file } = activeFile(tools);
    tools.begin();
    return [file.info().status, file.status, file.fd > 0, file.closed];
  },
  'SyncFile as JSON': (tools) => {
    const { file } = activeFile(tools);
    tools.begin();
    return asJson(file);
  },
  'SyncFile.import': ({ core, buffer, begin, own }) => {
    const file = own(buffer.exportSyncFile('write'));
    begin();
    return own(core.SyncFile.import(file.fd)).closed;
  },
  'SyncFile.adopt': ({ core, buffer, begin, own, after }) => {
    const fd = buffer.exportSyncFile('write').release();
    let adopted = false;
    after(() => {
      if (!adopted) closeSync(fd);
    });
    begin();
    const file = own(core.SyncFile.adopt(fd));
    adopted = true;
    return file.closed;
  },
  'SyncFile.dup': ({ buffer, begin, own }) => {
    const file = own(buffer.exportSyncFile('write'));
    begin();
    return own(file.dup()).closed;
  },
  'SyncFile.release': ({ buffer, begin, own, after }) => {
    const file = own(buffer.exportSyncFile('write'));
    begin();
    const fd = file.release();
    after(() => closeSync(fd));
    return file.closed;
  },
  'SyncFile.close': ({ buffer, begin }) => {
    const file = buffer.exportSyncFile('write');
    begin();
    file.close();
    return file.closed;
  },
  'SyncFile.setDeadline': (tools) => {
    const { file } = activeFile(tools);
    tools.begin();
    file.setDeadline(process.hrtime.bigint() + 1_000_000_000n);
    return 'set';
  },
  'SyncFile.wait': async (tools) => {
    const { file, fence } = activeFile(tools);
    setImmediate(() => fence[Symbol.dispose]());
    tools.begin();
    await file.wait({ timeout: patience });
    return file.status;
  },
  'DmaBuf.isReady': ({ buffer, begin }) => {
    begin();
    return buffer.isReady('write');
  },
  'DmaBuf.isReady of a busy buffer': (tools) => {
    const { buffer } = busyBuffer(tools);
    tools.begin();
    return buffer.isReady('read');
  },
  'DmaBuf.ready of an idle buffer': async ({ buffer, begin }) => {
    begin();
    await buffer.ready('write', { timeout: patience });
    return 'ready';
  },
  'DmaBuf.ready of a busy buffer': async (tools) => {
    const { buffer, fence } = busyBuffer(tools);
    setImmediate(() => fence[Symbol.dispose]());
    tools.begin();
    await buffer.ready('read', { timeout: patience });
    return 'ready';
  },
  'DmaBuf.withCpuAccess of a busy buffer': async (tools) => {
    const { buffer, fence } = busyBuffer(tools);
    setImmediate(() => fence[Symbol.dispose]());
    tools.begin();
    return await buffer.withCpuAccess('read', (bytes) => bytes.length, { timeout: patience });
  },
  'DmaBuf.close while it is waited for': async (tools) => {
    const { buffer } = busyBuffer(tools);
    const waiting = buffer.ready('read').catch(({ code }: { code: string }) => code);
    tools.begin();
    buffer.close();
    tools.end();
    return [buffer.closed, await waiting];
  },
  'DmaBufPool with a busy buffer': async (tools) => {
    const pool = tools.own(new tools.core.DmaBufPool(4096, { from: 'system', max: 1 }));
    const loan = await pool.acquire();
    const fence = addFence(loan.buffer, 'write');
    tools.after(() => fence[Symbol.dispose]());
    tools.begin();
    loan.release();
    const waiting = pool.acquire({ timeout: patience });
    setImmediate(() => fence[Symbol.dispose]());
    (await waiting).release();
    return pool.statistics().inUse;
  },
};
