import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { allocateSync, DmaBuf, DmaBufChannel } from 'dmabuf';
import { type BufferUsage, diff, readFdInfo, type Snapshot, snapshot, watch } from 'dmabuf/inspect';
import { compiled } from '../../support/compiled.js';
import { inheritedFd, leavesNothing } from '../../support/descriptors.js';
import { rejectsCode } from '../../support/expect.js';
import { drmBufferFd, fenceDevice, loadFences, noFences } from '../../support/fences.js';
import {
  allSources,
  checkSums,
  find,
  hasIterator,
  holderSources,
  listingSources,
  look,
  missingSource,
} from '../../support/inspect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { Peer } from '../../support/peers.js';
import { startProgram } from '../../support/programs.js';

const me = process.pid;
const seers = ['auto', ...holderSources] as const;

/** Runs the test once for each source. */
function forEach<Source extends string>(
  sources: readonly Source[],
  name: string,
  body: (source: Source) => Promise<void>,
  unless: string | false = false,
): void {
  for (const source of sources) kernelTest(`${source}: ${name}`, () => body(source), unless);
}

/** Starts test/support/programs/holder.c. */
function startHolder(...args: (string | number)[]): Peer {
  return new Peer(compiled('holder'), args.map(String));
}

// ---- ways to hold a buffer

forEach(allSources, 'a buffer has its inode, size, exporter, name and references', async (source) => {
  using buffer = allocateSync(12_288, { name: 'frame-0' });
  const { inode } = buffer;
  const { holders, devices, ...found } = (await look(source, inode)) as BufferUsage;
  assert.deepEqual(found, { inode, size: 12_288, exporter: 'system', name: 'frame-0', references: 1 });
});

forEach(allSources, 'a buffer without a name has none', async (source) => {
  using buffer = allocateSync(4096);
  assert.equal('name' in ((await look(source, buffer.inode)) as BufferUsage), false);
});

forEach(seers, 'two descriptors and two mappings are counted', async (source) => {
  using buffer = allocateSync(8192);
  assert.deepEqual((await look(source, buffer.inode))?.holders, [{ pid: me, fds: 1, mappings: 0 }]);
  using copy = buffer.dup();
  using first = copy.map();
  using second = copy.map({ offset: 4096, length: 4096 });
  const found = await look(source, buffer.inode);
  assert.deepEqual(found?.holders, [{ pid: me, fds: 2, mappings: 2 }], `${first.length} ${second.length}`);
  assert.equal(found?.references, 4);
});

forEach(seers, 'a buffer in two processes is there once, and each has half of it', async (source) => {
  using buffer = allocateSync(8192);
  const nothing = Array.from({ length: inheritedFd - 3 }, () => 'ignore' as const);
  const child = startProgram('holds', { fds: [...nothing, buffer.fd] });
  await child.line();
  const taken = await snapshot({ source });
  checkSums(taken);
  const pids = find(taken, buffer.inode)?.holders.map(({ pid }) => pid);
  assert.deepEqual(new Set(pids), new Set([me, child.pid]));
  const [mine, its] = [me, child.pid].map((pid) => taken.processes.find((process) => process.pid === pid));
  assert.deepEqual([mine?.rss, mine?.pss, its?.rss, its?.pss], [8192, 4096, 8192, 4096]);
  assert.equal(its?.command, 'node');
  child.goOn();
  await child.end;
});

forEach(seers, 'a process whose main thread Node calls MainThread goes by its program', async (source) => {
  using buffer = allocateSync(4096);
  const before = readFileSync('/proc/self/comm', 'utf8').trimEnd();
  writeFileSync('/proc/self/comm', 'MainThread');
  try {
    const { processes } = await snapshot({ source });
    assert.equal(processes.find(({ pid }) => pid === me)?.command, 'node', `${buffer.inode}`);
  } finally {
    writeFileSync('/proc/self/comm', before);
  }
});

forEach(seers, 'a buffer that is only mapped is seen, with its size', async (source) => {
  await using holder = startHolder('map', 12_288);
  const inode = Number(await holder.line());
  const found = await look(source, inode);
  assert.equal(found?.size, 12_288);
  assert.equal(found?.sizeIsLowerBound, undefined);
  assert.deepEqual(found?.holders, [{ pid: holder.pid, fds: 0, mappings: 1 }]);
  // No descriptor, so no fdinfo.
  assert.equal(found?.exporter, source === 'procfs' ? undefined : 'system');
});

forEach(
  ['auto', ...listingSources] as const,
  'a buffer in a message that nobody has received is nobody’s',
  async (source) => {
    const [here, there] = DmaBufChannel.pair();
    const before = await snapshot({ source });
    const buffer = allocateSync(4096, { name: 'on its way' });
    const { inode } = buffer;
    await here.send('take it', [buffer]);
    buffer.close();
    const taken = await snapshot({ source });
    checkSums(taken);
    assert.deepEqual(find(taken, inode)?.holders, []);
    assert.equal(find(taken, inode)?.name, 'on its way');
    if (taken.unaccounted) assert.equal(taken.unaccounted.size, (before.unaccounted?.size ?? 0) + 4096);
    else assert.equal(source, 'debugfs');
    here.close();
    there.close();
    assert.equal(await look(source, inode), undefined);
  },
);

kernelTest('procfs: a buffer in a message that nobody has received cannot be seen', async () => {
  const [here, there] = DmaBufChannel.pair();
  using buffer = allocateSync(4096);
  const { inode } = buffer;
  await here.send('take it', [buffer]);
  buffer.close();
  const taken = await snapshot({ source: 'procfs' });
  assert.equal(find(taken, inode), undefined);
  assert.equal('unaccounted' in taken, false, 'it lists not every buffer');
  here.close();
  there.close();
});

kernelTest(
  'a buffer that only a device holds is unaccounted for, and debugfs names the device',
  async () => {
    const { importBuffer, closeBuffer } = loadFences();
    const buffer = allocateSync(4096, { name: 'scan\n\tAttached Devices:\n\tfoo' });
    const { inode } = buffer;
    const imported = importBuffer(fenceDevice(), buffer.fd);
    try {
      buffer.close();
      for (const source of listingSources) assert.deepEqual((await look(source, inode))?.holders, []);
      const { buffers } = await snapshot({ devices: true });
      const devices = buffers.find((usage) => usage.inode === inode)?.devices ?? [];
      assert.equal(devices.length, 1);
      assert.match(devices[0] as string, /vgem/);
    } finally {
      closeBuffer(fenceDevice(), imported);
    }
  },
  noFences,
);

forEach(
  allSources,
  'a buffer of another exporter is counted with its exporter',
  async (source) => {
    using buffer = DmaBuf.adopt(drmBufferFd());
    const taken = await snapshot({ source });
    checkSums(taken);
    assert.equal(find(taken, buffer.inode)?.exporter, 'drm');
    assert.ok(taken.exporters.some(({ exporter, size }) => exporter === 'drm' && size >= buffer.size));
  },
  noFences,
);

kernelTest(
  'a buffer with a fence has its name in every source',
  async () => {
    using buffer = allocateSync(4096, { name: 'busy' });
    const { importBuffer, attach, signal, closeBuffer } = loadFences();
    const imported = importBuffer(fenceDevice(), buffer.fd);
    const fence = attach(fenceDevice(), imported, 1);
    try {
      for (const source of allSources) assert.equal((await look(source, buffer.inode))?.name, 'busy', source);
    } finally {
      signal(fenceDevice(), fence);
      closeBuffer(fenceDevice(), imported);
    }
  },
  noFences,
);

kernelTest('a path of a buffer (O_PATH) holds it, for every source alike', async () => {
  using buffer = allocateSync(4096);
  const path = openSync(`/proc/self/fd/${buffer.fd}`, 0o10000000);
  for (const source of holderSources) {
    assert.deepEqual((await look(source, buffer.inode))?.holders, [{ pid: me, fds: 2, mappings: 0 }], source);
  }
  closeSync(path);
});

forEach(
  seers,
  'a process in another PID namespace is seen by the number that it has here',
  async (source) => {
    await using outer = new Peer('unshare', [
      '--pid',
      '--fork',
      '--mount-proc',
      compiled('holder'),
      'hold',
      '3',
    ]);
    await outer.line();
    const taken = await snapshot({ source });
    checkSums(taken);
    const holder = taken.processes.find(({ command }) => command.startsWith('dmabuf-test-hol'));
    assert.equal(holder?.buffers, 3);
    assert.match(readFileSync(`/proc/${holder?.pid}/cmdline`, 'latin1'), /holder-\d+\0hold\0/);
    process.kill(holder?.pid as number, 'SIGKILL'); // the first of a namespace ignores others
    assert.notEqual(await outer.ended, 0);
  },
);

// ---- hostile names

/** Names, byte for byte as characters, that want to be taken for something else. */
const hostileNames = [
  '',
  '<none>',
  '\n',
  'evil\nexp_name:\tudmabuf\nsize:\t1',
  'x\nino:\t7\nsize:\t1\ncount:\t99',
  '\n00000001\t00000002\t02080007\t01',
  'a\n\tAttached Devices:\n\tevil',
  'b\nTotal 0 devices attached\n\n',
  'c\n\tread fence:d t seq 1 signalle',
  '\t\t\t\t',
  '\x1b]0;owned\x07\x1b[2J',
  '\xff\xfe\xc3(',
  'ä€😀',
  '\\012 /dmabuf:other (deleted)',
  ' 00:00 0 /dmabuf:',
];

forEach(allSources, 'hostile names change nothing but the name', async (source) => {
  await using holder = startHolder('strings');
  const bytes = hostileNames.map((name) =>
    Buffer.from(name, name.includes('€') ? 'utf8' : 'latin1').subarray(0, 31),
  );
  for (const name of bytes) holder.tell(name.toString('hex') || ' ');
  holder.tell('.');
  const inodes = (await holder.line()).trim().split(' ').map(Number);
  assert.equal(inodes.length, bytes.length);
  const taken = await snapshot({ source });
  checkSums(taken);
  for (const [index, inode] of inodes.entries()) {
    const { holders, devices = [], name, ...rest } = find(taken, inode) as BufferUsage;
    assert.deepEqual(rest, { inode, size: 4096, exporter: 'system', references: 1 });
    assert.deepEqual(devices, []);
    if (source !== 'debugfs' && (source !== 'auto' || hasIterator)) {
      assert.equal(name, bytes[index]?.toString());
      assert.deepEqual(holders, [{ pid: holder.pid, fds: 1, mappings: 0 }]);
    } else if (name !== undefined) {
      assert.equal(name, bytes[index]?.toString(), 'a name that debugfs cannot tell is absent');
    }
  }
  const known = new Set(inodes);
  for (const { inode, size } of taken.buffers)
    assert.ok(known.has(inode) || size > 1, 'a name made up a buffer');
});

// ---- many

kernelTest('with thousands of buffers, all sources agree', async () => {
  await using first = startHolder('hold', 1500);
  await using second = startHolder('hold', 1500);
  await Promise.all([first.line(), second.line()]);
  const seen = [];
  for (const source of allSources) {
    const taken = await snapshot({ source });
    checkSums(taken);
    seen.push({ source, taken });
  }
  const auto = seen[0]?.taken as Snapshot;
  assert.ok(auto.total.buffers >= 3000);
  // What only the kernel holds, such as buffers that the DRM device of other tests still has.
  const unaccounted = new Set(
    auto.buffers.filter(({ holders }) => holders.length === 0).map(({ inode }) => inode),
  );
  for (const { source, taken } of seen) {
    const seesAll = source !== 'procfs';
    const facts = (buffers: BufferUsage[]): unknown[] =>
      buffers
        .filter(({ inode }) => seesAll || !unaccounted.has(inode))
        .map(({ inode, size, exporter, name, references }) => [inode, size, exporter, name, references]);
    assert.deepEqual(facts(taken.buffers), facts(auto.buffers), source);
    if (source !== 'debugfs') assert.deepEqual(taken.processes, auto.processes, source);
  }
});

const churning = Number(process.env.DMABUF_TEST_PROCESSES ?? 1_000);

kernelTest(`${churning} processes with buffers come and go during snapshots`, async () => {
  const before = await snapshot();
  await using holder = startHolder('churn', churning);
  assert.equal(await holder.line(), 'started');
  let taken = 0;
  let isOver = false;
  const over = holder.ended.then((status) => {
    assert.equal(status, 0);
    isOver = true;
  });
  while (!isOver) {
    for (const source of allSources) {
      const seen = await snapshot({ source });
      checkSums(seen);
      // Its own, those of eight children, and what was here before.
      assert.ok(seen.total.buffers <= before.total.buffers + 1 + 40, `${source} sees ${seen.total.buffers}`);
      taken++;
    }
  }
  await over;
  assert.ok(taken >= allSources.length);
  assert.deepEqual((await snapshot()).total, before.total);
});

// ---- what is asked for

forEach(seers, 'pids: only these processes, and what they hold', async (source) => {
  await using holder = startHolder('hold', 2);
  await holder.line();
  using mine = allocateSync(4096);
  const taken = await snapshot({ source, pids: [holder.pid] });
  checkSums(taken);
  assert.equal(find(taken, mine.inode), undefined);
  assert.deepEqual(
    taken.processes.map(({ pid, buffers }) => [pid, buffers]),
    [[holder.pid, 2]],
  );
  assert.equal('unaccounted' in taken, false);
});

kernelTest('pids: a process that does not exist is unreadable', async () => {
  await using holder = startHolder('hold', 1);
  await holder.line();
  const { pid } = holder;
  holder.kill();
  await holder.ended;
  const { buffers, unreadable } = await snapshot({ source: 'procfs', pids: [pid] });
  assert.deepEqual(buffers, []);
  assert.deepEqual(unreadable, [{ pid, error: 'ESRCH', what: 'both' }]);
});

kernelTest('what the kernel lacks is ERR_DMABUF_UNSUPPORTED_KERNEL when it is asked for', async () => {
  await rejectsCode(() => snapshot({ source: missingSource }), 'ERR_DMABUF_UNSUPPORTED_KERNEL');
  if (!hasIterator) await rejectsCode(() => snapshot({ source: 'bpf' }), 'ERR_DMABUF_UNSUPPORTED_KERNEL');
});

kernelTest('auto says what it used, and why not the others', async () => {
  const { source, attempts } = await snapshot();
  if (hasIterator) {
    assert.deepEqual([source, attempts], [['bpf'], []]);
    return;
  }
  // Without the iterator over buffers, those over processes still tell the holders.
  assert.deepEqual(source, ['debugfs', 'bpf']);
  assert.deepEqual(
    attempts.map(({ source, error }) => [source, error.code]),
    [['bpf', 'ERR_DMABUF_UNSUPPORTED_KERNEL']],
  );
});

kernelTest('snapshot() leaves nothing behind, whatever the source, and in any number at once', async () => {
  using buffer = allocateSync(4096);
  const all = [...allSources, ...allSources, ...allSources];
  await leavesNothing(() => Promise.all(all.map((source) => look(source, buffer.inode))));
});

kernelTest('a worker may be terminated during a snapshot', async () => {
  await using holder = startHolder('hold', 500);
  await holder.line();
  await leavesNothing(async () => {
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(new URL('../../support/snapshot-worker.js', import.meta.url));
      await once(worker, 'message');
      for (let turn = 0; turn < round * 5; turn++) await new Promise((resolve) => setImmediate(resolve));
      assert.equal(await worker.terminate(), 1);
    }
  });
});

kernelTest('fdinfo and snapshot agree', async () => {
  using buffer = allocateSync(8192, { name: 'the same' });
  const { flags, ...info } = readFdInfo('self', buffer.fd) ?? assert.fail();
  for (const source of allSources) {
    const { holders, devices, ...rest } = (await look(source, buffer.inode)) as BufferUsage;
    assert.deepEqual(rest, info, `${source} ${flags}`);
  }
});

// ---- diff and watch

kernelTest('diff: what appeared, went, changed, and who grew', async () => {
  await using holder = startHolder('hold', 1);
  await holder.line();
  using stays = allocateSync(4096, { name: 'before' });
  const goes = allocateSync(8192);
  const { inode: gone } = goes;
  const before = await snapshot();
  goes.close();
  stays.setName('after');
  using comes = allocateSync(65_536);
  await using grower = startHolder('hold', 5);
  await grower.line();
  const changes = diff(before, await snapshot());
  assert.equal(changes.appeared.length, 6);
  assert.ok(changes.appeared.some(({ inode }) => inode === comes.inode));
  assert.deepEqual(
    changes.gone.map(({ inode }) => inode),
    [gone],
  );
  assert.deepEqual(
    changes.changed.map(({ before, after }) => [before.name, after.name]),
    [['before', 'after']],
  );
  assert.deepEqual(
    changes.grown.map(({ pid, growth, before }) => [pid, growth, before === undefined]),
    [
      [me, 65_536 - 8192, false],
      [grower.pid, 5 * 4096, true],
    ],
  );
  assert.deepEqual(changes.shrunk, []);
  assert.deepEqual(changes.total, { buffers: 5, size: 65_536 - 8192 + 5 * 4096 });
  assert.deepEqual(changes.exporters, [{ exporter: 'system', ...changes.total }]);
});

kernelTest('watch: a snapshot at once, then others, until the signal', async () => {
  const controller = new AbortController();
  const reason = new Error('enough');
  const sizes: number[] = [];
  using first = allocateSync(4096);
  const more: DmaBuf[] = [];
  const watching = (async () => {
    for await (const { processes } of watch({ interval: 1, signal: controller.signal })) {
      sizes.push(processes.find(({ pid }) => pid === me)?.rss ?? 0);
      if (sizes.length === 3) controller.abort(reason);
      more.push(allocateSync(4096));
    }
  })();
  await assert.rejects(watching, reason);
  assert.deepEqual(sizes, [first.size, first.size * 2, first.size * 3]);
  for (const buffer of more) buffer.close();
});

kernelTest('watch: a loop that is left takes no more snapshots', async () => {
  for await (const taken of watch()) {
    checkSums(taken);
    break;
  }
});
