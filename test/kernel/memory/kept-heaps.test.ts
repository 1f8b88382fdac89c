import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { hasKernel, kernelTest } from '../../support/kernel-test.js';
import type { KeptHeapsReport } from '../../support/programs/kept-heaps.js';
import { runProgramInNamespace } from '../../support/programs.js';

function runWithOwnFolder(): KeptHeapsReport {
  const { rdev } = statSync('/dev/dma_heap/system');
  const [major, minor] = [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)];
  const setup = `
    mount -t tmpfs -o mode=755 tmpfs /dev/dma_heap
    mount -t tmpfs tmpfs /mnt
    export DMABUF_TEST_DEVICE='${major} ${minor}'`;
  return runProgramInNamespace(setup, 'kept-heaps');
}

if (hasKernel) {
  const notRoot = process.getuid?.() !== 0 && 'only root can make device nodes';
  const { sources, kept, isSameError, handles, strangerAfterwards } = notRoot
    ? (undefined as never)
    : runWithOwnFolder();
  const keptTest = (name: string, body: () => void): void => kernelTest(name, body, notRoot);
  const system = ['/dev/dma_heap/system'];

  keptTest('a heap that comes after a first miss serves', () => {
    assert.equal(sources['before there is a heap'], 'udmabuf');
    assert.equal(sources['before there is a heap, again'], 'udmabuf');
    assert.deepEqual(kept['before there is a heap, again'], []);
    assert.equal(sources['after it came'], 'system');
  });

  keptTest('a heap stays open after its first use, and is used again', () => {
    assert.deepEqual([kept['after it came'], kept.again, kept['by allocate()']], [system, system, system]);
    assert.deepEqual(kept['the same descriptor'], ['true']);
  });

  keptTest('openHandles does not list what the library keeps', () => {
    assert.deepEqual(handles, ['DmaBuf']);
  });

  keptTest('a contiguous heap that comes after a first miss serves', () => {
    assert.equal(sources['cma before it is there'], 'system');
    assert.equal(sources['cma at once after it came'], 'linux,cma');
    assert.equal(sources['cma later'], 'linux,cma');
    assert.equal(sources['cma after one came that is preferred'], 'default_cma_region');
    assert.equal(sources['cma after it went'], 'system');
    assert.deepEqual(kept['cma after it went'], system);
  });

  keptTest('what is not there is refused with the same error while it is not there', () => {
    assert.equal(isSameError, true);
  });

  keptTest('another device over the node is not passed by', () => {
    assert.equal(sources['before another device is mounted over it'], 'system');
    assert.equal(sources['while another device is mounted over it'], 'udmabuf');
    assert.deepEqual(kept['while another device is mounted over it'], []);
    assert.equal(sources.afterwards, 'system');
  });

  keptTest('a node that was replaced is opened anew', () => {
    assert.equal(sources['after the node was replaced'], 'system');
    assert.deepEqual(kept['after the node was replaced'], system);
  });

  keptTest('a link that led nowhere is looked at each time', () => {
    assert.equal(sources['a link to nowhere'], 'system');
    assert.equal(sources['a link to nowhere that leads somewhere'], 'later');
  });

  keptTest('a number that became another file is left alone', () => {
    assert.equal(sources['after its number was lost'], 'system');
    assert.equal(strangerAfterwards, '/dev/null');
  });

  keptTest('a worker takes what it kept with it', () => {
    assert.deepEqual(kept['by a worker that has ended'], ['0']);
  });

  keptTest('who loses the right to open a heap cannot use it any more', () => {
    assert.equal(sources['as another user whom the modes allow it'], 'system');
    assert.equal(sources['as another user whom the modes forbid it'], 'ERR_DMABUF_NO_SOURCE');
    assert.deepEqual(kept['as another user whom the modes forbid it'], []);
    assert.equal(sources['as root again'], 'system');
  });
}
