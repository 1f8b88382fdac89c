import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, statSync } from 'node:fs';
import { allocateSync } from 'dmabuf';
import { pinSync, snapshot, unpinSync } from 'dmabuf/inspect';
import { compiled } from '../../support/compiled.js';
import { leavesNothing } from '../../support/descriptors.js';
import { throwsCode } from '../../support/expect.js';
import { hasIterator, hasStatistics } from '../../support/inspect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { Peer, programFile } from '../../support/peers.js';
import type { InspectReport, ReportedSnapshot } from '../../support/programs/inspects.js';
import { packageRoot } from '../../support/programs.js';

const me = process.pid;
const nobody = 65534;
const asNobody = `exec setpriv --reuid ${nobody} --regid ${nobody} --clear-groups "$@"`;
const noIterator = hasIterator ? false : 'this kernel has no iterator over its dma-bufs';

const sanitized = process.env.LD_PRELOAD?.includes('libasan') && 'AddressSanitizer itself needs /proc';

/** Statistics in sysfs are for everybody to read, and few kernels have them: test/checked/sysfs.test.ts has those. */
const withoutStatistics = hasStatistics ? 'mount -t tmpfs tmpfs /sys/kernel/dmabuf; ' : '';

/** Takes snapshots in a mount namespace of its own, which the shell commands have prepared. */
function inspect(shell: string, sources = 'auto', fds: number[] = []): InspectReport {
  const command = ['sh', '-ec', withoutStatistics + shell, 'sh', process.execPath, programFile('inspects')];
  const { status, stdout, stderr } = spawnSync('unshare', ['--mount', ...command], {
    cwd: packageRoot,
    encoding: 'utf8',
    env: { ...process.env, DMABUF_TEST_SOURCES: sources },
    stdio: ['ignore', 'pipe', 'pipe', ...fds],
  });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as InspectReport;
}

/** The snapshot of auto, which must not have been refused. */
function auto({ snapshots, errors }: InspectReport): ReportedSnapshot {
  assert.deepEqual(errors, {});
  return snapshots.auto as ReportedSnapshot;
}

const codes = ({ attempts }: ReportedSnapshot): string[] =>
  attempts.map(({ source, code }) => `${source} ${code}`);

// ---- an ordinary user

kernelTest('an ordinary user gets what may be seen, a count of what may not, and no error', () => {
  using shared = allocateSync(8192, { name: 'shared' });
  using _secret = allocateSync(4096);
  const { pid, ...report } = inspect(asNobody, 'auto', [shared.fd]);
  const taken = auto({ pid, ...report });
  assert.deepEqual(taken.source, ['procfs']);
  assert.deepEqual(taken.buffers, [
    {
      inode: shared.inode,
      size: 8192,
      exporter: 'system',
      name: 'shared',
      references: 2,
      holders: [{ pid, fds: 1, mappings: 0 }],
    },
  ]);
  assert.ok(taken.unreadable.some((process) => process.pid === me));
  for (const { error, what } of taken.unreadable) assert.deepEqual([error, what], ['EACCES', 'both']);
  // Threads of the kernel hold nothing, and are not counted.
  assert.ok(taken.unreadable.length < 10, `${taken.unreadable.length} processes, in a guest that has a few`);
  assert.deepEqual(codes(taken), [
    hasIterator ? 'bpf EPERM' : 'bpf ERR_DMABUF_UNSUPPORTED_KERNEL',
    'debugfs EACCES',
    'sysfs ERR_DMABUF_UNSUPPORTED_KERNEL',
  ]);
  if (hasIterator) assert.match(taken.attempts[0]?.message ?? '', /CAP_BPF and CAP_PERFMON.*dmabuf pin/);
  assert.match(taken.attempts[1]?.message ?? '', /root/);
});

kernelTest('an ordinary user who asks for what only root may read gets the reason', () => {
  const { errors } = inspect(asNobody, hasIterator ? 'bpf,debugfs' : 'debugfs');
  if (hasIterator) assert.equal(errors.bpf?.code, 'EPERM');
  assert.equal(errors.debugfs?.code, 'EACCES');
});

kernelTest('an ordinary user sees a mapping of its own process, and at least its size', async () => {
  await using holder = new Peer(compiled('holder'), ['map', '12288', String(nobody)]);
  const inode = Number(await holder.line());
  const { buffers } = auto(inspect(asNobody));
  assert.deepEqual(buffers, [
    {
      inode,
      size: 8192,
      sizeIsLowerBound: true,
      holders: [{ pid: holder.pid, fds: 0, mappings: 1 }],
    },
  ]);
});

kernelTest('root without CAP_SYS_PTRACE sees what it may, and counts the others', () => {
  using _buffer = allocateSync(4096);
  const report = inspect('exec setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace "$@"', 'procfs');
  const taken = report.snapshots.procfs as ReportedSnapshot;
  assert.deepEqual(taken.buffers, []);
  const refused = taken.unreadable.find(({ pid }) => pid === me);
  assert.equal(refused?.error, 'EACCES');
  // Linux 7.2 lets CAP_PERFMON read the mappings.
  assert.notEqual(refused?.what, 'mappings');
});

/** Runs a command as an ordinary user with these capabilities and no others. */
function withCapabilities(names: string): string {
  const capabilities = names
    .split(' ')
    .map((name) => `+${name}`)
    .join(',');
  return `${asNobody.replace(' "$@"', '')} --inh-caps ${capabilities} --ambient-caps ${capabilities} "$@"`;
}

kernelTest('CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH are enough for procfs', () => {
  using buffer = allocateSync(4096);
  const { snapshots, errors } = inspect(withCapabilities('sys_ptrace dac_read_search'), 'procfs');
  assert.deepEqual(errors, {});
  const found = snapshots.procfs?.buffers.find(({ inode }) => inode === buffer.inode);
  assert.deepEqual(found?.holders, [{ pid: me, fds: 1, mappings: 0 }]);
});

kernelTest('CAP_CHECKPOINT_RESTORE tells the size of a buffer that is only mapped', async () => {
  await using holder = new Peer(compiled('holder'), ['map', '12288']);
  const inode = Number(await holder.line());
  for (const [capabilities, size, isLowerBound] of [
    ['sys_ptrace dac_read_search', 8192, true],
    ['sys_ptrace dac_read_search checkpoint_restore', 12288, undefined],
  ] as const) {
    const { snapshots } = inspect(withCapabilities(capabilities), 'procfs');
    const found = snapshots.procfs?.buffers.find((buffer) => buffer.inode === inode);
    assert.deepEqual([found?.size, found?.sizeIsLowerBound], [size, isLowerBound], capabilities);
    assert.deepEqual(found?.holders, [{ pid: holder.pid, fds: 0, mappings: 1 }]);
  }
});

kernelTest(
  'CAP_PERFMON alone is enough for mappings, on Linux 7.2',
  async () => {
    await using holder = new Peer(compiled('holder'), ['map', '12288']);
    const inode = Number(await holder.line());
    const { snapshots } = inspect(withCapabilities('perfmon'), 'procfs');
    const found = snapshots.procfs?.buffers.find((buffer) => buffer.inode === inode);
    assert.deepEqual(found?.holders, [{ pid: holder.pid, fds: 0, mappings: 1 }]);
    const refused = snapshots.procfs?.unreadable.find(({ pid }) => pid === holder.pid);
    assert.equal(refused?.what, 'descriptors');
  },
  noIterator,
);

kernelTest(
  'CAP_SYS_ADMIN is enough for BPF',
  () => {
    using buffer = allocateSync(4096);
    const { source, buffers } = auto(inspect(withCapabilities('sys_admin')));
    assert.deepEqual(source, ['bpf']);
    assert.ok(buffers.some(({ inode }) => inode === buffer.inode));
  },
  noIterator,
);

kernelTest(
  'CAP_BPF and CAP_PERFMON are enough for BPF',
  () => {
    using buffer = allocateSync(4096);
    const taken = auto(inspect(withCapabilities('bpf perfmon')));
    assert.deepEqual([taken.source, taken.unreadable], [['bpf'], []]);
    const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
    assert.deepEqual(found?.holders, [{ pid: me, fds: 1, mappings: 0 }]);
  },
  noIterator,
);

// ---- pinned iterators

kernelTest(
  'what root has pinned, an ordinary user reads: every buffer, and its own processes',
  () => {
    using buffer = allocateSync(4096, { name: 'secret' });
    assert.deepEqual(pinSync(), ['/sys/fs/bpf/dmabuf/buffers']);
    try {
      const taken = auto(inspect(asNobody));
      assert.deepEqual(taken.source, ['bpf', 'procfs']);
      const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
      assert.deepEqual([found?.size, found?.exporter, found?.name], [4096, 'system', 'secret']);
      assert.deepEqual(found?.holders, []);
      assert.ok((taken.unaccounted?.buffers ?? 0) >= 1);
      assert.ok(
        taken.unreadable.some(({ pid }) => pid === me),
        'who may hold what is unaccounted for',
      );
    } finally {
      unpinSync();
    }
  },
  noIterator,
);

kernelTest(
  'with the holders pinned too, an ordinary user sees as much as root',
  async () => {
    using buffer = allocateSync(4096, { name: 'known' });
    pinSync({ holders: true });
    try {
      const taken = auto(inspect(asNobody));
      assert.deepEqual(taken.source, ['bpf']);
      assert.deepEqual(taken.unreadable, []);
      const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
      assert.deepEqual(found?.holders, [{ pid: me, fds: 1, mappings: 0 }]);
      assert.deepEqual(taken.total, (await snapshot()).total);
    } finally {
      unpinSync();
    }
  },
  noIterator,
);

kernelTest(
  'pinning: mode, group, once more, and elsewhere',
  () => {
    const [path] = pinSync({ folder: '/sys/fs/bpf/elsewhere', mode: 0o440, gid: 5 }) as [string];
    const { mode, gid } = statSync(path);
    assert.deepEqual([mode & 0o777, gid], [0o440, 5]);
    assert.deepEqual(pinSync({ folder: '/sys/fs/bpf/elsewhere' }), [path]);
    assert.equal(statSync(path).mode & 0o777, 0o444);
    unpinSync('/sys/fs/bpf/elsewhere');
    assert.deepEqual(readdirSync('/sys/fs/bpf'), []);
    throwsCode(() => unpinSync('/sys/fs/bpf/elsewhere'), 'ENOENT');
  },
  noIterator,
);

kernelTest('pinning outside a BPF file system is refused, and leaves nothing', () => {
  const error = leavesNothing(() => throwsCode(() => pinSync({ folder: '/tmp/dmabuf-pins' }), 'EINVAL'));
  assert.match(error.message, /mount -t bpf/);
  assert.equal(existsSync('/tmp/dmabuf-pins'), false);
  throwsCode(() => pinSync({ folder: '/no/such/folder' }), 'ENOENT');
});

kernelTest(
  'pinning what the kernel has not is refused, and leaves nothing',
  () => {
    throwsCode(() => pinSync(), 'ERR_DMABUF_UNSUPPORTED_KERNEL');
    assert.deepEqual(readdirSync('/sys/fs/bpf'), []);
  },
  hasIterator && 'this kernel has it',
);

kernelTest(
  'files that are no iterators of ours are refused where they are pinned',
  () => {
    const shell = `mkdir /tmp/pins; head -c 1000 /dev/urandom > /tmp/pins/buffers; ${asNobody}`;
    chmodSync('/tmp', 0o1777);
    const report = inspect(shell.replace(' "$@"', ' env DMABUF_TEST_PINNED=/tmp/pins "$@"'));
    assert.ok(auto(report).attempts.some(({ code }) => code === 'EPROTO'));
  },
  noIterator,
);

// ---- machines on which something is missing

kernelTest('without debugfs', () => {
  using buffer = allocateSync(4096);
  const taken = auto(inspect('umount /sys/kernel/debug; exec "$@"', 'auto', [buffer.fd]));
  assert.ok(taken.buffers.some(({ inode }) => inode === buffer.inode));
  if (hasIterator) {
    assert.deepEqual([taken.source, taken.attempts], [['bpf'], []]);
    return;
  }
  assert.deepEqual(taken.source, ['procfs']);
  assert.ok(codes(taken).includes('debugfs ENOENT'));
});

kernelTest('without BTF', () => {
  using buffer = allocateSync(4096);
  const taken = auto(inspect('mount -t tmpfs tmpfs /sys/kernel/btf; exec "$@"', 'auto', [buffer.fd]));
  assert.deepEqual(taken.source, ['debugfs', 'procfs']);
  assert.ok(codes(taken).includes('bpf ENOENT'));
  assert.match(taken.attempts[0]?.message ?? '', /CONFIG_DEBUG_INFO_BTF/);
  const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
  assert.equal(found?.holders.length, 2);
});

kernelTest('with hidepid=2, an ordinary user is told that processes are hidden', () => {
  using buffer = allocateSync(4096);
  const hide = 'mount -t proc -o hidepid=2 proc /proc';
  const { pid, ...report } = inspect(`${hide}; ${asNobody}`, 'auto', [buffer.fd]);
  const taken = auto({ pid, ...report });
  assert.deepEqual(
    taken.buffers.map(({ inode, holders }) => [inode, holders]),
    [[buffer.inode, [{ pid, fds: 1, mappings: 0 }]]],
  );
  assert.deepEqual(taken.unreadable, []);
  assert.match(taken.attempts.at(-1)?.message ?? '', /hidepid=(2|invisible)/);
  assert.equal(codes(auto(inspect(`${hide}; exec "$@"`))).includes('procfs ENOENT'), false, 'root sees all');
});

kernelTest(
  'without /proc, what else there is',
  () => {
    using buffer = allocateSync(4096);
    const taken = auto(inspect('mount -t tmpfs tmpfs /proc; exec "$@"', 'auto', [buffer.fd]));
    assert.ok(taken.buffers.some(({ inode }) => inode === buffer.inode));
    // Not even the PID namespace is known.
    assert.deepEqual(taken.source, hasIterator ? ['bpf'] : ['debugfs']);
    assert.equal('unaccounted' in taken, false, 'nobody has looked for holders');
    assert.ok(codes(taken).includes('procfs ENODEV'));
  },
  sanitized,
);

kernelTest(
  'without anything, ERR_DMABUF_NO_SOURCE says why, one by one',
  () => {
    const { errors } = inspect(`mount -t tmpfs tmpfs /sys/kernel; mount -t tmpfs tmpfs /proc; ${asNobody}`);
    assert.equal(errors.auto?.code, 'ERR_DMABUF_NO_SOURCE');
    assert.deepEqual(
      errors.auto?.attempts?.map(({ source }) => source),
      ['bpf', 'debugfs', 'sysfs', 'procfs'],
    );
  },
  sanitized,
);

kernelTest('in another PID namespace, holders are those that procfs shows there', () => {
  using buffer = allocateSync(4096);
  const shell = 'exec unshare --pid --fork --mount-proc "$@"';
  const { pid, ...report } = inspect(shell, 'auto', [buffer.fd]);
  const taken = auto({ pid, ...report });
  assert.deepEqual(taken.source, hasIterator ? ['bpf', 'procfs'] : ['debugfs', 'procfs']);
  assert.ok(
    taken.attempts.some(({ source, message }) => source === 'bpf' && /PID namespace/.test(message)),
    'it says why not BPF',
  );
  const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
  assert.deepEqual(found?.holders, [{ pid, fds: 1, mappings: 0 }]);
  assert.ok(pid < 20, 'a number of the namespace');
});

// The statistics are gone from Debian's kernels: these files are made up, as the kernel's ABI document has them.
kernelTest('sysfs, as older kernels document it', () => {
  const shell = `mount -t tmpfs tmpfs /sys/kernel; mkdir -p /sys/kernel/dmabuf/buffers/7 /sys/kernel/dmabuf/buffers/9;
    echo 8192 > /sys/kernel/dmabuf/buffers/7/size; echo drm > /sys/kernel/dmabuf/buffers/7/exporter_name; exec "$@"`;
  const { snapshots, errors } = inspect(shell, 'auto,sysfs');
  assert.deepEqual(errors, {});
  assert.deepEqual(snapshots.sysfs?.source, ['sysfs']);
  assert.deepEqual(snapshots.sysfs?.buffers, [{ inode: 7, size: 8192, exporter: 'drm', holders: [] }]);
  assert.equal(snapshots.auto?.unaccounted?.size, 8192);
});
