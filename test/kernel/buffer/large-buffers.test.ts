// Buffers above 4 GiB, and processes that have no addresses left for theirs. A large buffer shows the same memory again and
// again (udmabuf), so that it takes little of the guest's.

import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { spawnSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { closeHandles, createMemfd, DmaBuf, DmaBufChannel } from 'dmabuf';
import { readFdInfo, snapshot } from 'dmabuf/inspect';
import { throwsCode } from '../../support/expect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { limitUdmabuf } from '../../support/memfds.js';
import { notRoot } from '../../support/needs.js';
import type { AddressLimitReport } from '../../support/programs/address-limit.js';
import { packageRoot, runProgram } from '../../support/programs.js';

const piece = 16 << 20;
const pieces = 321;
const size = pieces * piece; // 5 GiB and 16 MiB

/** Calls `use` with a buffer above 4 GiB. Each 16 MiB of it are the same. */
async function withLargeBuffer(use: (buffer: DmaBuf) => void | Promise<void>): Promise<void> {
  using _limit = limitUdmabuf(size / 2 ** 20);
  const memfd = createMemfd(piece);
  try {
    const same = { offset: 0, size: piece };
    using buffer = DmaBuf.fromMemfd(memfd, Array<typeof same>(pieces).fill(same));
    await use(buffer);
  } finally {
    closeSync(memfd);
  }
}

const far = size - 10;
const text = new TextEncoder().encode('the end');

kernelTest(
  'a buffer above 4 GiB is read and written at its far end, as copies and mapped',
  () =>
    withLargeBuffer(async (buffer) => {
      assert.equal(buffer.size, size);
      const mapping = buffer.map({ offset: size - 4096, length: 4096 });
      mapping.bytes.set(text, 4096 - 10);
      // A copy maps the whole buffer.
      assert.equal(buffer.text({ position: far, length: text.length }), 'the end');
      assert.equal(buffer.text({ position: far - 4 * piece, length: text.length }), 'the end');
      assert.equal(buffer.write(text.subarray(0, 3), 2 ** 32 + piece - 3), 3);
      assert.equal(Buffer.from(mapping.bytes.subarray(4093)).toString(), 'the');
      assert.equal(buffer.read(new Uint8Array(100), far), 10);
      throwsCode(() => buffer.write(text, size - 6), 'ERR_OUT_OF_RANGE');
      throwsCode(() => buffer.map({ offset: size }), 'ERR_OUT_OF_RANGE');
      mapping.unmap();
    }),
  notRoot,
);

kernelTest(
  'what an ArrayBuffer cannot hold is refused with the limit and the ways that there are, and loses nothing',
  () =>
    withLargeBuffer(async (buffer) => {
      if (size > constants.MAX_LENGTH) {
        for (const call of [() => buffer.map(), () => buffer.cpuAccessSync('read')]) {
          const error = throwsCode(call, 'ERR_OUT_OF_RANGE');
          assert.match(error.message, /MAX_LENGTH.*map\(\{ offset, length \}\)/);
        }
      } else {
        using mapping = buffer.map();
        mapping.bytes[size - 1] = 5;
        assert.equal(mapping.bytes[size - 1 - piece], 5);
        buffer.withCpuAccessSync('read', (bytes) => assert.equal(bytes.length, size));
      }
    }),
  notRoot,
);

kernelTest(
  'the size of a buffer above 4 GiB is right wherever it is shown, and where it is sent',
  () =>
    withLargeBuffer(async (buffer) => {
      assert.equal(readFdInfo('self', buffer.fd)?.size, size);
      assert.equal(buffer.info().size, size);
      const { buffers, processes } = await snapshot({ source: 'procfs', pids: [process.pid] });
      assert.equal(buffers.find(({ inode }) => inode === buffer.inode)?.size, size);
      assert.equal(processes[0]?.pss, size);
      const { stdout } = spawnSync(
        process.execPath,
        [join(packageRoot, 'dist/package/cli.js'), 'ps', '--source', 'procfs', '--json'],
        { encoding: 'utf8' },
      );
      assert.ok(stdout.includes(String(size)), stdout);
      const [here, there] = DmaBufChannel.pair();
      await here.send('', [buffer]);
      const { handles = [] } = (await there.receive()) ?? {};
      assert.equal((handles[0] as DmaBuf).size, size);
      closeHandles(handles);
      here.close();
      there.close();
    }),
  notRoot,
);

kernelTest('a process without addresses is told so, with the cure, and loses nothing', () => {
  const { refusals, part, afterwards, left } = runProgram<AddressLimitReport>('address-limit');
  for (const [call, { name, code, syscall, hint }] of Object.entries(refusals)) {
    assert.deepEqual([name, code, syscall], ['DmaBufError', 'ENOMEM', 'mmap'], call);
    assert.match(
      hint ?? '',
      /^The process uses \d+ bytes of addresses, of at most \d+ \(RLIMIT_AS\): map less/,
      call,
    );
  }
  assert.deepEqual([part, afterwards], [7, 7]);
  assert.deepEqual(left, { fds: 0, mappings: 0, handles: 0 });
});
