import { readdirSync } from 'node:fs';
import { createError, DmaBufError } from '../../errors.js';
import { native } from '../../native.js';
import type { BufferUsage } from '../model.js';
import { allOf, figure, onThreadPool, type Survey } from './survey.js';

const folder = '/sys/kernel/dmabuf/buffers';

async function read(inode: string, file: string): Promise<string | undefined> {
  const path = `${folder}/${inode}/${file}`;
  try {
    const text = await onThreadPool<Buffer>((done) => native.readWhole(path, done));
    return text.toString().replace(/\n$/, '');
  } catch (error) {
    if (error instanceof DmaBufError && ['ENOENT', 'ENODEV'].includes(error.code)) return undefined;
    throw error;
  }
}

/** Nothing if the buffer was freed meanwhile. */
async function bufferOf(inode: string): Promise<BufferUsage | undefined> {
  const [size, exporter] = await allOf([read(inode, 'size'), read(inode, 'exporter_name')]);
  if (size === undefined || !/^\d+$/.test(size)) return undefined;
  const path = `${folder}/${inode}`;
  const usage: BufferUsage = { inode: figure(inode, path), size: figure(size, path), holders: [] };
  if (exporter !== undefined) usage.exporter = exporter;
  return usage;
}

function explain(error: NodeJS.ErrnoException): Error {
  if (error.errno === undefined) return error;
  const made = createError(error.errno, 'open', folder);
  if (made.code !== 'ENOENT') return made;
  const code = 'ERR_DMABUF_UNSUPPORTED_KERNEL';
  const text =
    'this kernel has no statistics in sysfs: they need CONFIG_DMABUF_SYSFS_STATS, and newer kernels have none';
  return new DmaBufError(`${code}: ${text}`, { code, path: folder, cause: made });
}

/**
 * Reads sysfs (Documentation/ABI/testing/sysfs-kernel-dmabuf-buffers; CONFIG_DMABUF_SYSFS_STATS from Linux 5.13 until
 * it was removed): every buffer's size and exporter, without names and holders.
 */
export async function surveySysfs(): Promise<Survey> {
  let entries: string[];
  try {
    entries = readdirSync(folder); // a folder of the kernel's, which keeps nobody waiting
  } catch (error) {
    throw explain(error as NodeJS.ErrnoException);
  }
  const inodes = entries.filter((entry) => /^\d+$/.test(entry));
  const found: BufferUsage[] = [];
  // A few at a time: each takes two descriptors.
  for (let start = 0; start < inodes.length; start += 32) {
    const some = await allOf(inodes.slice(start, start + 32).map(bufferOf));
    for (const buffer of some) if (buffer !== undefined) found.push(buffer);
  }
  return {
    source: 'sysfs',
    buffers: new Map(found.map((buffer) => [buffer.inode, buffer])),
    commands: new Map(),
    unreadable: [],
  };
}
