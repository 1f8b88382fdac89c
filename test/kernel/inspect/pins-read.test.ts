// Pinned iterators among users who trust each other in nothing: what a snapshot believes.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { allocateSync } from 'dmabuf';
import { pinSync, snapshot, unpinSync } from 'dmabuf/inspect';
import { Folder } from '../../support/channels.js';
import { rejectsCode } from '../../support/expect.js';
import { hasIterator } from '../../support/inspect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { programFile } from '../../support/peers.js';
import { asStranger, BpfMount, dmabuf, pinMaps, stranger } from '../../support/pins.js';
import type { InspectReport, ReportedSnapshot } from '../../support/programs/inspects.js';
import { packageRoot } from '../../support/programs.js';

const noIterator = hasIterator ? false : 'this kernel has no iterator over its dma-bufs';
const other = { uid: 1001, gid: 1001 };

function inspect(pinned: string, sources: string, user: { uid: number; gid: number }): InspectReport {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [programFile('inspects')], {
    cwd: packageRoot,
    encoding: 'utf8',
    env: { ...process.env, DMABUF_TEST_SOURCES: sources, DMABUF_TEST_PINNED: pinned },
    ...user,
  });
  assert.equal(signal ?? status, 0, stderr);
  return JSON.parse(stdout) as InspectReport;
}

/** The snapshot that a user gets of everything, with the iterators of that folder. */
function auto(pinned: string, user = other): ReportedSnapshot {
  const { snapshots, errors } = inspect(pinned, 'auto', user);
  assert.deepEqual(errors, {});
  return snapshots.auto as ReportedSnapshot;
}

/** Asserts that a user's snapshot says why it does not believe the folder, and has what the other sources tell. */
function refuses(pinned: string, code: string, path: string, user = other): void {
  const { attempts, source, buffers } = auto(pinned, user);
  const found = attempts.filter(({ source: name, message }) => name === 'bpf' && message.includes(path));
  assert.deepEqual(
    found.map((attempt) => attempt.code),
    [code],
    JSON.stringify(attempts),
  );
  assert.deepEqual(source, ['procfs']);
  assert.deepEqual(buffers, []);
}

/** Files that read as one record each. */
function forge(folder: Folder): void {
  chmodSync(folder.path, 0o755);
  const buffer = Buffer.alloc(128);
  buffer.writeBigUInt64LE(777777n, 0);
  buffer.writeBigUInt64LE(1n << 40n, 8);
  buffer.writeBigInt64LE(9n, 16);
  buffer.writeInt32LE(16, 24);
  buffer.writeInt32LE(7, 28);
  buffer.write('ALL YOUR MEMORY', 32);
  buffer.write('system', 64);
  const holder = Buffer.alloc(16);
  holder.writeBigUInt64LE(777777n, 0);
  holder.writeInt32LE(1, 8);
  for (const [name, bytes] of [
    ['buffers', buffer],
    ['descriptors', holder],
    ['mappings', holder],
  ] as const) {
    writeFileSync(folder.file(name), bytes, { mode: 0o444 });
  }
}

/** Puts links to the forged files there. */
function link(bpfFolder: string, forged: Folder): void {
  for (const name of ['buffers', 'descriptors', 'mappings']) {
    symlinkSync(forged.file(name), `${bpfFolder}/${name}`);
  }
}

kernelTest('files that another user has forged in a folder of its own are not believed', () => {
  using forged = new Folder();
  using bpf = new BpfMount();
  forge(forged);
  asStranger(
    `mkdir "$1"; cd "$1"; for name in buffers descriptors mappings; do ln -s ${forged.path}/$name; done`,
    bpf.file(),
  );
  refuses(bpf.file(), 'EPERM', `'${bpf.file()}' cannot be trusted`);
});

kernelTest('who asks for pinned iterators alone gets the reason', () => {
  using bpf = new BpfMount();
  asStranger('mkdir "$1"', bpf.file());
  const { errors } = inspect(bpf.file(), 'bpf', other);
  assert.equal(errors.bpf?.code, 'EPERM');
  assert.equal(errors.bpf?.path, bpf.file());
});

kernelTest('a FIFO that somebody holds open does not hold a snapshot up', () => {
  using folder = new Folder();
  using bpf = new BpfMount();
  chmodSync(folder.path, 0o777);
  asStranger('mkfifo "$1"', folder.file('fifo'));
  asStranger(`mkdir "$1"; ln -s ${folder.file('fifo')} "$1/buffers"`, bpf.file());
  refuses(bpf.file(), 'EPERM', bpf.file());
  mkdirSync(bpf.file('of root'));
  symlinkSync(folder.file('fifo'), bpf.file('of root/buffers'));
  refuses(bpf.file('of root'), 'EPROTO', bpf.file('of root/buffers'));
});

kernelTest('a symbolic link is not followed, not even in a folder of root', () => {
  using forged = new Folder();
  using bpf = new BpfMount();
  forge(forged);
  mkdirSync(bpf.file());
  link(bpf.file(), forged);
  refuses(bpf.file(), 'EPROTO', bpf.file('dmabuf/buffers'));
  symlinkSync('dmabuf', bpf.file('link'));
  refuses(bpf.file('link'), 'ENOTDIR', bpf.file('link'));
});

kernelTest('a folder in another file system is not believed, though it is root’s', () => {
  using forged = new Folder();
  forge(forged);
  refuses(forged.path, 'EPROTO', `'${forged.path}' is not in a BPF file system`);
});

kernelTest('a folder that others may write is not believed', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file());
  for (const mode of [0o1777, 0o775]) {
    chmodSync(bpf.file(), mode);
    refuses(bpf.file(), 'EPERM', bpf.file());
  }
});

kernelTest('a folder below one of another user is not believed', () => {
  using bpf = new BpfMount();
  asStranger('mkdir "$1"', bpf.file('theirs'));
  mkdirSync(bpf.file('theirs/dmabuf'));
  refuses(bpf.file('theirs/dmabuf'), 'EPERM', bpf.file('theirs'));
});

kernelTest('what is pinned and no iterator is not read', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file());
  pinMaps(bpf.file('dmabuf/buffers'));
  chmodSync(bpf.file('dmabuf/buffers'), 0o444);
  refuses(bpf.file(), 'EPROTO', bpf.file('dmabuf/buffers'));
});

kernelTest(
  'a file that another user owns, or others may write, is not read, though it is in a folder of root',
  () => {
    using bpf = new BpfMount();
    const [path] = pinSync({ folder: bpf.file() }) as [string];
    chmodSync(path, 0o464);
    refuses(bpf.file(), 'EPERM', path);
    chmodSync(path, 0o444);
    chownSync(path, stranger.uid, stranger.gid);
    refuses(bpf.file(), 'EPERM', path);
    assert.ok(auto(bpf.file(), stranger).source.includes('bpf'), 'who owns it trusts it');
  },
  noIterator,
);

kernelTest(
  'another iterator under the name ends the reading, and the snapshot goes on',
  () => {
    using _buffer = allocateSync(4096);
    using bpf = new BpfMount();
    pinSync({ folder: bpf.file(), holders: true });
    renameSync(bpf.file('dmabuf/descriptors'), bpf.file('dmabuf/buffers'));
    refuses(bpf.file(), 'EPROTO', bpf.file('dmabuf/buffers'));
  },
  noIterator,
);

kernelTest(
  'the iterators of a folder of root are believed by all',
  () => {
    using buffer = allocateSync(4096);
    using bpf = new BpfMount();
    pinSync({ folder: bpf.file(), holders: true });
    const taken = auto(bpf.file());
    assert.deepEqual(taken.source, ['bpf']);
    const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
    assert.deepEqual(found?.holders, [{ pid: process.pid, fds: 1, mappings: 0 }]);
    unpinSync(bpf.file());
  },
  noIterator,
);

kernelTest('where nobody has pinned anything, no attempt is told', async () => {
  using bpf = new BpfMount();
  for (const pinned of [bpf.file(), '/no/such/folder']) {
    const { attempts } = auto(pinned);
    assert.equal(attempts.filter(({ source }) => source === 'bpf').length, 1, JSON.stringify(attempts));
  }
});

kernelTest(
  'a user who may load iterators does not read pinned ones',
  async () => {
    using bpf = new BpfMount();
    asStranger('mkdir "$1"', bpf.file());
    const { source, attempts } = await snapshot({ pinned: bpf.file() });
    assert.deepEqual([source, attempts], [['bpf'], []]);
  },
  noIterator,
);

kernelTest(
  'where the kernel has no iterator, who asks for it is told of the forged one',
  async () => {
    using bpf = new BpfMount();
    asStranger('mkdir "$1"', bpf.file());
    await rejectsCode(() => snapshot({ source: 'bpf', pinned: bpf.file() }), 'EPERM');
  },
  hasIterator && 'this kernel has it',
);

kernelTest('doctor says that the default folder is forged, to root too', () => {
  asStranger('mkdir "$1"', '/sys/fs/bpf/dmabuf');
  try {
    for (const user of [stranger, other, {}]) {
      const { stdout } = dmabuf(['doctor'], user);
      const isOwner = user === stranger;
      const told = /^warn {2}pinned: (EPERM: '\/sys\/fs\/bpf\/dmabuf' cannot be trusted)/m.test(stdout);
      assert.equal(told, !isOwner, stdout);
    }
  } finally {
    asStranger('rmdir "$1"', '/sys/fs/bpf/dmabuf');
  }
});
