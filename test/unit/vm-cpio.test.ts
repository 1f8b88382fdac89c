import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { writeCpio } from '../../lib/vm/cpio.js';

interface Read {
  path: string;
  mode: number;
  inode: number;
  data: Buffer;
}

/** Reads an archive as the kernel's own unpacker does: a header of hexadecimal fields, then name, then data. */
function readCpio(archive: Buffer): Read[] {
  const entries: Read[] = [];
  const align = (at: number): number => (at + 3) & ~3;
  for (let at = 0; at < archive.length; ) {
    assert.equal(archive.toString('latin1', at, at + 6), '070701');
    const field = (index: number): number =>
      Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    const [inode, mode, size, nameSize] = [field(0), field(1), field(6), field(11)];
    const nameAt = at + 110;
    const path = archive.toString('utf8', nameAt, nameAt + nameSize - 1);
    const dataAt = align(nameAt + nameSize);
    entries.push({ path, mode, inode, data: archive.subarray(dataAt, dataAt + size) });
    at = align(dataAt + size);
  }
  return entries;
}

describe('writeCpio', () => {
  it('keeps names, modes and contents of any length', () => {
    for (const length of [0, 1, 2, 3, 4, 5, 1000]) {
      const data = Buffer.alloc(length, 'x');
      const [entry] = readCpio(writeCpio([{ path: 'init', data, mode: 0o755 }]));
      assert.deepEqual(
        { path: entry?.path, mode: entry?.mode, data: entry?.data },
        { path: 'init', mode: 0o100755, data },
      );
    }
  });

  it('adds each folder once, before what is in it', () => {
    const archive = writeCpio([
      { path: 'a/b/one', data: '1' },
      { path: 'a/b/two', data: '2' },
      { path: 'a', directory: true },
    ]);
    assert.deepEqual(
      readCpio(archive).map(({ path }) => path),
      ['a', 'a/b', 'a/b/one', 'a/b/two', 'TRAILER!!!'],
    );
  });

  it('writes symbolic links', () => {
    const [, link] = readCpio(writeCpio([{ path: 'bin/sh', linkTo: 'busybox' }]));
    assert.equal(link?.mode, 0o120777);
    assert.equal(link?.data.toString(), 'busybox');
  });

  it('gives every entry an inode of its own, so that none is taken for a hard link', () => {
    const archive = writeCpio(['a', 'b', 'c'].map((path) => ({ path, data: path })));
    const inodes = readCpio(archive).map(({ inode }) => inode);
    assert.equal(new Set(inodes).size, inodes.length);
  });

  it('names with letters beyond ASCII are counted in bytes', () => {
    assert.equal(readCpio(writeCpio([{ path: 'grün', data: '' }]))[0]?.path, 'grün');
  });
});
