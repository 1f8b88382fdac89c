import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { createMemfd, DmaBuf, type MemfdRange } from 'dmabuf';
import { testArguments } from '../../support/argument-tests.js';
import { type BadValue, badFds, badRequiredNames, badSizes } from '../../support/bad-values.js';
import { closeOnExec, flagsOf, leavesNothing, notOpen, openFds } from '../../support/descriptors.js';
import { throwsCode, unsound } from '../../support/expect.js';
import { kernelTest, type TestBody } from '../../support/kernel-test.js';
import { limitUdmabuf, makeMemfd, type OddMemfd } from '../../support/memfds.js';
import { notRoot } from '../../support/needs.js';
import type { UdmabufReport } from '../../support/programs/no-udmabuf.js';
import { runProgram } from '../../support/programs.js';
import { openStrangers } from '../../support/strangers.js';

// The facts that the kernel's udmabuf selftest checks, and what fromMemfd explains before the kernel says EINVAL.

const page = 4096;

/** A memfd whose pages are filled with their own number, from `first` on. */
function numbered(pages: number, first = 0): number {
  const memfd = createMemfd(pages * page);
  for (let index = 0; index < pages; index++)
    writeSync(memfd, Buffer.alloc(page, first + index), 0, page, index * page);
  return memfd;
}

/** The number on each page of a buffer. */
function numbers(buffer: DmaBuf): number[] {
  return buffer.withCpuAccessSync('read', (bytes) => {
    const found: number[] = [];
    for (let start = 0; start < bytes.length; start += page) {
      assert.equal(bytes[start], bytes[start + page - 1]);
      found.push(bytes[start] as number);
    }
    return found;
  });
}

function withMemfd<T>(memfd: number, fn: (memfd: number) => T): T {
  try {
    return fn(memfd);
  } finally {
    closeSync(memfd);
  }
}

const rootTest = (name: string, body: TestBody): void => kernelTest(name, body, notRoot);

const parameter = (name: string): number =>
  Number(readFileSync(`/sys/module/udmabuf/parameters/${name}`, 'utf8'));

kernelTest('a whole memfd becomes a dma-buf', () => {
  const memfd = numbered(3);
  using buffer = DmaBuf.fromMemfd(memfd);
  closeSync(memfd);
  const { size, exporter } = buffer.info();
  assert.deepEqual([size, exporter, buffer.source], [3 * page, 'udmabuf', 'udmabuf']);
  assert.deepEqual(numbers(buffer), [0, 1, 2]);
  assert.ok((flagsOf(buffer.fd) & closeOnExec) !== 0);
});

kernelTest('one range of a memfd becomes a dma-buf', () => {
  withMemfd(numbered(4), (memfd) => {
    using buffer = DmaBuf.fromMemfd(memfd, { offset: page, size: 2 * page });
    assert.deepEqual([buffer.size, ...numbers(buffer)], [2 * page, 1, 2]);
  });
});

kernelTest('several ranges of a memfd become one dma-buf, in their order, and may repeat', () => {
  withMemfd(numbered(4), (memfd) => {
    using buffer = DmaBuf.fromMemfd(memfd, [
      { offset: 3 * page, size: page },
      { offset: 0, size: 2 * page },
      { offset: 3 * page, size: page },
    ]);
    assert.deepEqual(numbers(buffer), [3, 0, 1, 3]);
  });
});

kernelTest('ranges of several memfds become one dma-buf', () => {
  const [one, two, three] = [numbered(2, 10), numbered(2, 20), numbered(2, 30)] as [number, number, number];
  using buffer = DmaBuf.fromMemfd(one, [
    { memfd: three, offset: page, size: page },
    { offset: 0, size: 2 * page },
    { memfd: two, offset: 0, size: page },
    { memfd: one, offset: page, size: page },
  ]);
  for (const memfd of [one, two, three]) closeSync(memfd);
  assert.deepEqual(numbers(buffer), [31, 10, 11, 20, 11]);
});

kernelTest('the memory is shared both ways', () => {
  withMemfd(createMemfd(2 * page), (memfd) => {
    using buffer = DmaBuf.fromMemfd(memfd, { offset: page, size: page });
    buffer.write(Buffer.from('from the dma-buf'), 8);
    const seen = Buffer.alloc(16);
    readSync(memfd, seen, 0, 16, page + 8);
    assert.equal(seen.toString(), 'from the dma-buf');
    writeSync(memfd, Buffer.from('from the memfd!!'), 0, 16, page + 8);
    buffer.read(seen, 8);
    assert.equal(seen.toString(), 'from the memfd!!');
  });
});

kernelTest('two buffers of one memfd share its memory', () => {
  withMemfd(createMemfd(page), (memfd) => {
    using one = DmaBuf.fromMemfd(memfd);
    using two = DmaBuf.fromMemfd(memfd);
    assert.notEqual(one.inode, two.inode);
    one.write(Uint8Array.of(42));
    const byte = new Uint8Array(1);
    two.read(byte);
    assert.equal(byte[0], 42);
  });
});

kernelTest('the memory outlives memfd and buffer as long as it is mapped', () => {
  const memfd = numbered(2, 5);
  const buffer = DmaBuf.fromMemfd(memfd);
  closeSync(memfd);
  assert.deepEqual(numbers(buffer), [5, 6]);
  buffer.close();
});

kernelTest('as many pieces as list_limit are taken, one more is refused with the figure', () => {
  const limit = parameter('list_limit');
  withMemfd(createMemfd(page), (memfd) => {
    const pieces = Array.from({ length: limit }, () => ({ offset: 0, size: page }));
    using buffer = DmaBuf.fromMemfd(memfd, pieces);
    assert.equal(buffer.size, limit * page);
    const error = leavesNothing(() =>
      throwsCode(() => DmaBuf.fromMemfd(memfd, [...pieces, { offset: 0, size: page }]), 'EINVAL'),
    );
    assert.match(error.message, new RegExp(`${limit + 1} pieces.* ${limit} .*list_limit`));
  });
});

rootTest('exactly size_limit_mb is taken, one page more is refused with the cure', () => {
  using _limit = limitUdmabuf(64);
  const limit = parameter('size_limit_mb') * 2 ** 20;
  withMemfd(createMemfd(limit + page), (memfd) => {
    DmaBuf.fromMemfd(memfd, { offset: page, size: limit }).close();
    const error = leavesNothing(() => throwsCode(() => DmaBuf.fromMemfd(memfd), 'EINVAL'));
    assert.match(error.message, /size_limit_mb/);
    assert.match(error.message, new RegExp(`echo ${limit / 2 ** 20 + 1} > `));
  });
});

rootTest('pieces that exceed size_limit_mb together are refused', () => {
  using _limit = limitUdmabuf(64);
  const limit = parameter('size_limit_mb') * 2 ** 20;
  withMemfd(createMemfd(limit), (memfd) => {
    const pieces = [
      { offset: 0, size: limit },
      { offset: 0, size: page },
    ];
    const error = leavesNothing(() => throwsCode(() => DmaBuf.fromMemfd(memfd, pieces), 'EINVAL'));
    assert.match(error.message, /size_limit_mb/);
  });
});

rootTest('a limit that root has raised holds at once', () => {
  using _limit = limitUdmabuf(65);
  withMemfd(createMemfd(65 << 20), (memfd) => DmaBuf.fromMemfd(memfd).close());
});

const sealings: readonly [string, OddMemfd, RegExp][] = [
  ['that cannot be sealed', { sealing: false }, /MFD_ALLOW_SEALING.*F_SEAL_SHRINK/],
  ['without seals', { seals: 0 }, /F_SEAL_SHRINK/],
  ['sealed against growing alone', { seals: 4 }, /F_SEAL_SHRINK/],
  ['sealed against writing', { seals: 2 | 8 }, /F_SEAL_WRITE/],
];
for (const [what, options, explanation] of sealings) {
  kernelTest(`a memfd ${what} is refused with the reason`, () => {
    withMemfd(makeMemfd(options), (memfd) => {
      const error = leavesNothing(() => throwsCode(() => DmaBuf.fromMemfd(memfd), 'EINVAL'));
      assert.match(error.message, explanation);
      assert.equal(error.syscall, 'UDMABUF_CREATE');
    });
  });
}

kernelTest('a memfd sealed in every way that matters not is taken', () => {
  withMemfd(makeMemfd({ seals: 1 | 2 | 4 }), (memfd) => DmaBuf.fromMemfd(memfd).close());
});

kernelTest('a memfd whose size is not of pages is refused as a whole, and its pages are taken', () => {
  withMemfd(makeMemfd({ size: page + 1 }), (memfd) => {
    const error = leavesNothing(() => throwsCode(() => DmaBuf.fromMemfd(memfd), 'EINVAL'));
    assert.match(error.message, /4097.*page size/);
    DmaBuf.fromMemfd(memfd, { offset: 0, size: page }).close();
  });
  withMemfd(makeMemfd({ size: 0 }), (memfd) => {
    assert.match(throwsCode(() => DmaBuf.fromMemfd(memfd), 'EINVAL').message, /empty/);
  });
});

const ranges: readonly [string, unknown, string][] = [
  ['an empty list', [], 'ERR_OUT_OF_RANGE'],
  ['an offset inside a page', { offset: 1, size: page }, 'ERR_OUT_OF_RANGE'],
  ['a size that is not of pages', { offset: 0, size: page - 1 }, 'ERR_OUT_OF_RANGE'],
  ['size 0', { offset: 0, size: 0 }, 'ERR_OUT_OF_RANGE'],
  ['a range that leaves the memfd', { offset: page, size: 2 * page }, 'ERR_OUT_OF_RANGE'],
  ['a range beyond the memfd', { offset: 4 * page, size: page }, 'ERR_OUT_OF_RANGE'],
  ['a negative offset', { offset: -page, size: page }, 'ERR_OUT_OF_RANGE'],
  ['offset and size that exceed 2^53 together', { offset: 2 ** 53 - page, size: page }, 'ERR_OUT_OF_RANGE'],
  ['no offset', { size: page }, 'ERR_INVALID_ARG_TYPE'],
  ['no size', { offset: 0 }, 'ERR_INVALID_ARG_TYPE'],
  ['a size as text', { offset: 0, size: '4096' }, 'ERR_INVALID_ARG_TYPE'],
  ['null', null, 'ERR_INVALID_ARG_TYPE'],
  ['a number', page, 'ERR_INVALID_ARG_TYPE'],
  ['a list with null', [null], 'ERR_INVALID_ARG_TYPE'],
  [
    'a second range that leaves the memfd',
    [
      { offset: 0, size: page },
      { offset: page, size: 2 * page },
    ],
    'ERR_OUT_OF_RANGE',
  ],
  ['a range of what is not open', { memfd: notOpen, offset: 0, size: page }, 'EBADF'],
  ['a range of memfd -1', { memfd: -1, offset: 0, size: page }, 'ERR_OUT_OF_RANGE'],
];
for (const [what, pieces, code] of ranges) {
  kernelTest(`fromMemfd refuses ${what}`, () => {
    withMemfd(createMemfd(2 * page), (memfd) => {
      leavesNothing(() => throwsCode(() => DmaBuf.fromMemfd(memfd, unsound(pieces) as MemfdRange), code));
    });
  });
}

kernelTest('fromMemfd refuses every descriptor that is no memfd, with the reason', async (t) => {
  const strangers = await openStrangers();
  t.after(() => strangers.close());
  for (const [kind, fd] of strangers.fds) {
    leavesNothing(() => {
      let error: Error | undefined;
      try {
        DmaBuf.fromMemfd(fd).close();
      } catch (reason) {
        error = reason as Error;
      }
      assert.ok(error, kind);
      const expected = kind === 'a path' ? /EBADF/ : /not a memfd|F_SEAL_SHRINK/;
      assert.match(error.message, expected, kind);
    });
  }
});

testArguments(kernelTest, [
  { argument: 'fromMemfd, memfd,', bad: badFds, call: (value) => DmaBuf.fromMemfd(unsound(value)) },
  {
    argument: 'createMemfd, size,',
    bad: [...badSizes, ['a size that is not of pages', 5000, 'ERR_OUT_OF_RANGE']],
    call: (value) => createMemfd(unsound(value)),
  },
  {
    argument: 'createMemfd, option name,',
    bad: badRequiredNames.filter(([what]) => what !== 'undefined'),
    call: (value) => createMemfd(page, { name: unsound(value) }),
  },
  {
    argument: 'createMemfd, option hugePageSize,',
    bad: [
      ['a string', '2097152', 'ERR_INVALID_ARG_TYPE'],
      ['no power of two', 3 << 20, 'ERR_OUT_OF_RANGE'],
      ['more than the size', 2 << 20, 'ERR_OUT_OF_RANGE'],
      ['-1', -1, 'ERR_OUT_OF_RANGE'],
    ] satisfies BadValue[],
    call: (value) => createMemfd(page, { hugePageSize: unsound(value) }),
  },
]);

/** Has the kernel reserve huge pages of 2 MiB; the reason when it has none. */
function reserve(count: number): string | false {
  try {
    writeFileSync('/proc/sys/vm/nr_hugepages', String(count));
    const got = Number(readFileSync('/proc/sys/vm/nr_hugepages', 'utf8'));
    return got >= count ? false : `the kernel reserved ${got} of ${count} huge pages`;
  } catch (error) {
    return (error as Error).message;
  }
}

const huge = 2 << 20;

const noHuge = reserve(4);
reserve(0);
const hugeTest = (name: string, body: (memfd: number) => void): void =>
  kernelTest(
    name,
    () => {
      assert.equal(reserve(4), false);
      try {
        withMemfd(createMemfd(2 * huge, { hugePageSize: huge }), body);
      } finally {
        reserve(0);
      }
    },
    noHuge,
  );

hugeTest('a memfd of huge pages becomes a dma-buf, shared both ways', (memfd) => {
  using buffer = DmaBuf.fromMemfd(memfd);
  assert.equal(buffer.size, 2 * huge);
  buffer.withCpuAccessSync('write', (bytes) => {
    bytes[huge + 5] = 55;
  });
  using again = DmaBuf.fromMemfd(memfd, { offset: huge, size: huge });
  const byte = new Uint8Array(1);
  again.read(byte, 5);
  assert.equal(byte[0], 55);
});

hugeTest('small pages out of huge ones become a dma-buf', (memfd) => {
  // What the selftest does: a small page out of every huge one.
  using whole = DmaBuf.fromMemfd(memfd);
  whole.withCpuAccessSync('write', (bytes) => {
    bytes.fill(1, page, 2 * page).fill(2, huge + page, huge + 2 * page);
  });
  using buffer = DmaBuf.fromMemfd(memfd, [
    { offset: huge + page, size: page },
    { offset: page, size: page },
  ]);
  assert.deepEqual(numbers(buffer), [2, 1]);
});

kernelTest(
  'huge pages that nobody reserved are refused with ENOMEM, and nothing is left behind',
  () => {
    withMemfd(createMemfd(2 * huge, { hugePageSize: huge }), (memfd) => {
      leavesNothing(() => throwsCode(() => DmaBuf.fromMemfd(memfd), 'ENOMEM'));
    });
  },
  noHuge,
);

kernelTest('a huge page size that the machine does not have is refused with ENODEV', () => {
  leavesNothing(() => throwsCode(() => createMemfd(4 << 20, { hugePageSize: 4 << 20 }), 'ENODEV'));
});

kernelTest('a memfd of createMemfd is close-on-exec, named, and cannot shrink', () => {
  withMemfd(createMemfd(page, { name: 'mine' }), (memfd) => {
    assert.ok((flagsOf(memfd) & closeOnExec) !== 0);
    assert.match(openFds().get(memfd) ?? '', /^\/memfd:mine/);
    writeSync(memfd, 'x', page); // growing is allowed
  });
});

rootTest('a user who may not open /dev/udmabuf gets EACCES with the rule that cures it', () => {
  const { fromMemfd, allocate, allocateSync } = runProgram<UdmabufReport>('no-udmabuf', {
    uid: 65534,
    gid: 65534,
  });
  assert.deepEqual([fromMemfd.code, fromMemfd.path, fromMemfd.syscall], ['EACCES', '/dev/udmabuf', 'open']);
  assert.match(fromMemfd.message, /udev rule.*KERNEL=="udmabuf"/);
  for (const error of [allocate, allocateSync]) {
    assert.equal(error.code, 'ERR_DMABUF_NO_SOURCE');
    assert.deepEqual(
      error.attempts?.map((attempt) => `${attempt.source} ${attempt.error.code}`),
      ['system EACCES', 'udmabuf EACCES'],
    );
    assert.match(error.message, /KERNEL=="udmabuf"/);
    assert.match(error.message, /SUBSYSTEM=="dma_heap"/);
  }
});

kernelTest('opening and closing leaves no descriptor', () => {
  leavesNothing(() => {
    for (let i = 0; i < 50; i++) {
      withMemfd(createMemfd(page), (memfd) => DmaBuf.fromMemfd(memfd).close());
    }
  });
  closeSync(openSync('/dev/udmabuf', 'r'));
});
