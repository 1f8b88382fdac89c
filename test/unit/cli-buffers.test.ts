import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bufferKeys, matches, processKeys } from '../../lib/cli/buffers.js';
import { sortRows } from '../../lib/cli/sorting.js';
import { bufferUsage, snapshotOf } from '../support/snapshots.js';

const held = [{ pid: 7, fds: 1, mappings: 0 }];
const small = bufferUsage({ inode: 1, size: 4096, name: 'camera-raw', references: 3, holders: held });
const large = bufferUsage({ inode: 2, size: 1 << 20, exporter: 'udmabuf' });
const { exporter, references, ...unknown } = bufferUsage({ inode: 3, size: 8192, name: 'a' });
const buffers = [small, large, unknown];

describe('a filter of buffers', () => {
  const inodes = (filter: Parameters<typeof matches>[1]): number[] =>
    buffers.filter((buffer) => matches(buffer, filter)).map(({ inode }) => inode);

  it('that is empty lets all pass', () => assert.deepEqual(inodes({}), [1, 2, 3]));
  it('takes any of the exporters', () => assert.deepEqual(inodes({ exporter: ['udmabuf', 'drm'] }), [2]));
  it('finds a part of the name', () => assert.deepEqual(inodes({ name: 'raw' }), [1]));
  it('includes the least size', () => assert.deepEqual(inodes({ minSize: 8192 }), [2, 3]));
  it('finds what nobody holds', () => assert.deepEqual(inodes({ unheld: true }), [2, 3]));
  it('combines', () => assert.deepEqual(inodes({ unheld: true, minSize: 8193 }), [2]));
});

describe('sorting', () => {
  const order = (sort: string, reverse = false, limit?: number): number[] =>
    sortRows(buffers, bufferKeys, { sort, reverse, limit }).map(({ inode }) => inode);

  it('begins with the largest size', () => assert.deepEqual(order('size'), [2, 3, 1]));
  it('goes the other way round', () => assert.deepEqual(order('size', true), [1, 3, 2]));
  it('begins with the first inode', () => assert.deepEqual(order('inode'), [1, 2, 3]));
  it('begins with the first name, and ends with what has none', () =>
    assert.deepEqual(order('name'), [3, 1, 2]));
  it('ends with an unknown exporter', () => assert.deepEqual(order('exporter'), [1, 2, 3]));
  it('begins with the most references', () => assert.deepEqual(order('references'), [1, 2, 3]));
  it('begins with the most holders', () => assert.deepEqual(order('holders'), [1, 2, 3]));
  it('takes the first ones', () => assert.deepEqual(order('size', false, 1), [2]));
  it('knows every column of processes', () => {
    const { processes } = snapshotOf([small]);
    for (const sort of Object.keys(processKeys))
      assert.equal(sortRows(processes, processKeys, { sort }).length, 1);
  });
});
