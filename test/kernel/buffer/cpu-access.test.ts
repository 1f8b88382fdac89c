import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { type Access, allocateSync, CpuAccess, type DmaBuf } from 'dmabuf';
import { throwsCode } from '../../support/expect.js';
import { kernelTest, type TestBody } from '../../support/kernel-test.js';
import { cannotRecord, recordSync } from '../../support/kernel-trace.js';
import { mappings } from '../../support/proc.js';

const accesses: readonly Access[] = ['read', 'write', 'read-write'];

/** A test of what the kernel was asked to do, which it is asked about with kprobes. */
const tracedTest = (name: string, body: TestBody): void => kernelTest(name, body, cannotRecord);

for (const access of accesses) {
  tracedTest(`cpuAccessSync('${access}') begins, and end() ends, that direction`, () => {
    using buffer = allocateSync(4096);
    const calls = recordSync(() => buffer.cpuAccessSync(access).end());
    assert.deepEqual(calls, [`START ${access}`, `END ${access}`]);
  });

  tracedTest(`withCpuAccessSync('${access}') begins and ends that direction`, () => {
    using buffer = allocateSync(4096);
    const calls = recordSync(() => buffer.withCpuAccessSync(access, () => {}));
    assert.deepEqual(calls, [`START ${access}`, `END ${access}`]);
  });

  tracedTest(`close ends an open ${access} access`, () => {
    const buffer = allocateSync(4096);
    const calls = recordSync(() => {
      buffer.cpuAccessSync(access);
      buffer.close();
    });
    assert.deepEqual(calls, [`START ${access}`, `END ${access}`]);
  });
}

tracedTest('the access lasts while the callback runs', () => {
  using buffer = allocateSync(4096);
  const calls = recordSync(() =>
    buffer.withCpuAccessSync('write', () => {
      buffer.withCpuAccessSync('read', () => {});
    }),
  );
  assert.deepEqual(calls, ['START write', 'START read', 'END read', 'END write']);
});

tracedTest('END runs when the callback throws', () => {
  using buffer = allocateSync(4096);
  const calls = recordSync(() => {
    assert.throws(() =>
      buffer.withCpuAccessSync('write', () => {
        throw new Error('of the callback');
      }),
    );
  });
  assert.deepEqual(calls, ['START write', 'END write']);
});

tracedTest('END runs when the callback returns a promise', () => {
  using buffer = allocateSync(4096);
  const calls = recordSync(() => {
    throwsCode(() => buffer.withCpuAccessSync('read', async () => {}), 'ERR_INVALID_RETURN_VALUE');
  });
  assert.deepEqual(calls, ['START read', 'END read']);
});

tracedTest('using ends the access', () => {
  using buffer = allocateSync(4096);
  const calls = recordSync(() => {
    using _access = buffer.cpuAccessSync('read-write');
  });
  assert.deepEqual(calls, ['START read-write', 'END read-write']);
});

tracedTest('end does nothing the second time', () => {
  using buffer = allocateSync(4096);
  const calls = recordSync(() => {
    const access = buffer.cpuAccessSync('read');
    access.end();
    access.end();
    access[Symbol.dispose]();
  });
  assert.deepEqual(calls, ['START read', 'END read']);
});

tracedTest('close ends every open access once, and those that ended not again', () => {
  const buffer = allocateSync(4096);
  const calls = recordSync(() => {
    buffer.cpuAccessSync('read');
    buffer.cpuAccessSync('read');
    buffer.cpuAccessSync('write');
    buffer.cpuAccessSync('read-write').end();
    buffer.close();
  });
  const ends = calls.filter((call) => call.startsWith('END'));
  assert.deepEqual(ends.sort(), ['END read', 'END read', 'END read-write', 'END write']);
});

tracedTest('release ends open accesses', () => {
  const buffer = allocateSync(4096);
  let fd = -1;
  const calls = recordSync(() => {
    buffer.cpuAccessSync('write');
    fd = buffer.release();
  });
  assert.deepEqual(calls, ['START write', 'END write']);
  closeSync(fd);
});

tracedTest('end after close does nothing', () => {
  const buffer = allocateSync(4096);
  const access = buffer.cpuAccessSync('write');
  buffer.close();
  assert.deepEqual(
    recordSync(() => access.end()),
    [],
  );
});

tracedTest('closing the buffer inside the callback ends the access once', () => {
  const buffer = allocateSync(4096);
  const calls = recordSync(() => buffer.withCpuAccessSync('write', () => buffer.close()));
  assert.deepEqual(calls, ['START write', 'END write']);
});

tracedTest('read copies between START and END of reading', () => {
  using buffer = allocateSync(4096);
  const calls = recordSync(() => buffer.read(new Uint8Array(8)));
  assert.deepEqual(calls, ['START read', 'END read']);
});

tracedTest('write copies between START and END of writing', () => {
  using buffer = allocateSync(4096);
  const calls = recordSync(() => buffer.write(new Uint8Array(8)));
  assert.deepEqual(calls, ['START write', 'END write']);
});

tracedTest('nothing is begun on a read-only descriptor, which cannot be mapped', () => {
  using buffer = allocateSync(4096, { access: 'read' });
  const calls = recordSync(() => {
    throwsCode(() => buffer.withCpuAccessSync('read', () => {}), 'EACCES');
  });
  assert.deepEqual(calls, []);
});

kernelTest('bytes cover the whole buffer', () => {
  using buffer = allocateSync(12_288);
  assert.equal(
    buffer.withCpuAccessSync('read', (bytes) => bytes.length),
    12_288,
  );
});

kernelTest('what is written under CPU access is in the buffer', () => {
  using buffer = allocateSync(4096);
  buffer.withCpuAccessSync('write', (bytes) => bytes.set([1, 2, 3], 4093));
  const bytes = new Uint8Array(3);
  buffer.read(bytes, 4093);
  assert.deepEqual([...bytes], [1, 2, 3]);
});

kernelTest('a CpuAccess says what it is for', () => {
  using buffer = allocateSync(4096);
  using access = buffer.cpuAccessSync('write');
  assert.ok(access instanceof CpuAccess);
  assert.deepEqual([access.access, access.bytes.length], ['write', 4096]);
});

kernelTest('withCpuAccessSync returns what the callback returned', () => {
  using buffer = allocateSync(4096);
  const result = { some: 'value' };
  assert.equal(
    buffer.withCpuAccessSync('read', () => result),
    result,
  );
});

kernelTest('withCpuAccessSync throws what the callback threw', () => {
  using buffer = allocateSync(4096);
  const failure = new Error('of the callback');
  const fail = (): never => {
    throw failure;
  };
  assert.throws(
    () => buffer.withCpuAccessSync('read', fail),
    (error) => error === failure,
  );
});

const promises: readonly [string, () => PromiseLike<unknown>][] = [
  ['a promise', () => Promise.resolve(1)],
  ['a promise that rejects', () => Promise.reject(new Error('unheard'))],
  // biome-ignore lint/suspicious/noThenProperty: that is what is tested.
  ['a thenable', () => ({ then: () => undefined as never })],
  [
    'a callable thenable',
    // biome-ignore lint/suspicious/noThenProperty: that is what is tested.
    () => Object.assign(() => {}, { then: () => undefined as never }),
  ],
];
for (const [what, make] of promises) {
  kernelTest(`withCpuAccessSync refuses a callback that returns ${what}`, () => {
    using buffer = allocateSync(4096);
    throwsCode(() => buffer.withCpuAccessSync('read', make), 'ERR_INVALID_RETURN_VALUE');
  });
}

kernelTest('the bytes are the same array each time', () => {
  using buffer = allocateSync(4096);
  const first = buffer.withCpuAccessSync('read', (bytes) => bytes);
  using access = buffer.cpuAccessSync('write');
  assert.equal(access.bytes, first);
});

kernelTest('the bytes stay readable after the end of the access', () => {
  using buffer = allocateSync(4096);
  const access = buffer.cpuAccessSync('write');
  access.bytes[0] = 5;
  access.end();
  assert.equal(access.bytes[0], 5);
});

kernelTest('many accesses take one mapping', () => {
  using buffer = allocateSync(4096);
  const before = mappings().length;
  for (const access of accesses) buffer.withCpuAccessSync(access, () => {});
  buffer.read(new Uint8Array(1));
  buffer.write(new Uint8Array(1));
  assert.equal(mappings().length, before + 1);
});

const refusals: readonly [string, (buffer: DmaBuf) => unknown][] = [
  ['cpuAccessSync', (buffer) => buffer.cpuAccessSync('read')],
  ['withCpuAccessSync', (buffer) => buffer.withCpuAccessSync('read', () => {})],
  ['withCpuAccessSync for writing', (buffer) => buffer.withCpuAccessSync('write', () => {})],
];
for (const [name, use] of refusals) {
  kernelTest(`${name} refuses a read-only descriptor, and points to read()`, () => {
    using buffer = allocateSync(4096, { access: 'read' });
    const error = throwsCode(() => use(buffer), 'EACCES');
    assert.match(error.message, /read\(\)/);
  });
}
