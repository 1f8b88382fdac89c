import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { allocateSync, type DmaBuf } from '../../../../lib/index.js';
import type { Finding } from '../../../../lib/inspect/doctor.js';
import type { BufferUsage, ProcessUsage, Snapshot, SnapshotDiff } from '../../../../lib/inspect/index.js';
import { missingSource } from '../../../support/inspect.js';
import { kernelTest } from '../../../support/kernel-test.js';
import { packageRoot } from '../../../support/programs.js';
import { Terminal } from '../../../support/terminal.js';

const main = join(packageRoot, 'dist/package/cli.js');
const [major = 0, minor = 0] = release().split('.').map(Number);
const hasIterator = major > 6 || (major === 6 && minor >= 18);
const needsIterator = hasIterator ? false : 'this kernel has no BPF iterator over dma-bufs';
const nobody = { uid: 65534, gid: 65534 };

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

function dmabuf(args: readonly string[], options: { uid?: number; gid?: number } = {}): Outcome {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', cwd: packageRoot, ...options });
}

function json<T>(args: readonly string[], options: { uid?: number; gid?: number } = {}): T {
  const { status, stdout, stderr } = dmabuf([...args, '--json'], options);
  assert.deepEqual([status, stderr], [0, ''], `${args.join(' ')}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

async function withBuffers(
  names: readonly string[],
  use: (buffers: DmaBuf[]) => void | Promise<void>,
): Promise<void> {
  const buffers = names.map((name, index) => allocateSync(4096 * (index + 1), { name }));
  try {
    await use(buffers);
  } finally {
    for (const buffer of buffers) buffer.close();
  }
}

const self = String(process.pid);
const hostile = ['\x1b]0;x\x07', 'evil\nexp_name:\tudmabuf', '\x9b2J\u202e\u2028\\', '=1+1,"'];

/** What a terminal would act upon, newlines apart. */
function controlsIn(text: string): string[] {
  return text.match(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu) ?? [];
}

kernelTest('heaps lists the system heap as usable, and fails for who may use none', () => {
  const { status, stdout } = dmabuf(['heaps']);
  assert.equal(status, 0);
  assert.match(stdout, /^system +system +yes +\/dev\/dma_heap\/system/m);
  const refused = dmabuf(['heaps'], nobody);
  assert.equal(refused.status, 1);
  assert.match(refused.stdout, /^system +system +no \(EACCES\)/m);
  assert.match(refused.stderr, /^dmabuf heaps: system: Give a group access with a udev rule/m);
});

kernelTest('ls shows the buffers of a process, the largest first', () =>
  withBuffers(['first', 'second'], (buffers) => {
    const { buffers: found, total } = json<Snapshot>(['ls', '--pid', self]);
    assert.deepEqual(
      found.map(({ name, size, exporter }) => [name, size, exporter]),
      [
        ['second', 8192, 'system'],
        ['first', 4096, 'system'],
      ],
    );
    assert.deepEqual(total, { buffers: 2, size: 12288 });
    assert.deepEqual(
      found.map(({ inode }) => inode),
      buffers.map((buffer) => buffer.info().inode).reverse(),
    );
    const { stdout } = dmabuf(['ls', '--pid', self, '--bytes']);
    assert.match(stdout, new RegExp(`^ *\\d+ +8192 +system +\\d+ +second +${self} `, 'm'));
  }),
);

kernelTest('ls filters, sorts and limits', () =>
  withBuffers(['aa', 'ab', 'cc'], () => {
    const names = (...args: string[]): (string | undefined)[] =>
      json<Snapshot>(['ls', '--pid', self, ...args]).buffers.map(({ name }) => name);
    assert.deepEqual(names('--name', 'a', '--sort', 'name'), ['aa', 'ab']);
    assert.deepEqual(names('--min-size', '8k', '--exporter', 'drm,system', '--limit', '1'), ['cc']);
  }),
);

kernelTest('ls ends with 1 when a filter lets nothing pass', () => {
  assert.equal(dmabuf(['ls', '--name', 'no such name']).status, 1);
});

for (const source of ['procfs', 'debugfs', 'bpf']) {
  kernelTest(
    `ls reads ${source}`,
    () =>
      withBuffers(['seen'], ([buffer]) => {
        const taken = json<Snapshot>(['ls', '--source', source]);
        assert.deepEqual(taken.source, [source]);
        assert.ok(taken.buffers.some(({ inode }) => inode === buffer?.info().inode));
      }),
    source === 'bpf' && needsIterator,
  );
}

kernelTest('ls --devices asks for them', () =>
  withBuffers(['plain'], () => {
    assert.deepEqual(json<Snapshot>(['ls', '--devices', '--pid', self]).buffers[0]?.devices, []);
  }),
);

kernelTest('a source that the kernel does not have is an error in one line', () => {
  const { status, stdout, stderr } = dmabuf(['ls', '--source', missingSource]);
  assert.deepEqual([status, stdout], [2, '']);
  assert.match(stderr, /^dmabuf ls: ERR_DMABUF_UNSUPPORTED_KERNEL: [^\n]+\n$/);
});

kernelTest('no name drives the terminal, and JSON has each as it is', () =>
  withBuffers(hostile, () => {
    // debugfs cannot tell a name with a newline in it.
    const procfs = ['ls', '--source', 'procfs', '--pid', self];
    for (const args of [procfs, [...procfs, '--csv']]) {
      const { status, stdout, stderr } = dmabuf(args);
      assert.equal(status, 0, stderr);
      assert.deepEqual(controlsIn(stdout), [], args.join(' '));
      assert.match(stdout, /evil\\nexp_name:\\tudmabuf/);
      if (args.includes('--csv')) assert.equal(stdout.split('\n').length, hostile.length + 2);
    }
    const { buffers } = json<Snapshot>([...procfs, '--sort', 'inode']);
    assert.deepEqual(
      buffers.map(({ name }) => name),
      hostile,
    );
  }),
);

kernelTest("no process's command drives the terminal", () =>
  withBuffers(['x'], () => {
    const before = readFileSync('/proc/self/comm', 'utf8').trimEnd();
    writeFileSync('/proc/self/comm', 'a\n\x1b[2J');
    try {
      for (const args of [['ls'], ['ps', '--csv']]) {
        const { status, stdout, stderr } = dmabuf(args);
        assert.deepEqual([status, stderr, controlsIn(stdout)], [0, '', []]);
        assert.ok(stdout.includes('a\\n\\x1b[2J'), stdout);
      }
    } finally {
      writeFileSync('/proc/self/comm', before);
    }
  }),
);

kernelTest('ps tells what each process holds, and the total', () =>
  withBuffers(['one', 'two'], () => {
    const { processes, total } = json<Snapshot>(['ps']);
    const mine = processes.find(({ pid }) => pid === process.pid) as ProcessUsage;
    assert.deepEqual([mine.buffers, mine.fds, mine.rss], [2, 2, 12288]);
    assert.ok(total.size >= 12288);
    const { stdout } = dmabuf(['ps']);
    assert.match(stdout, new RegExp(`^ *${self} +2 +2 +\\d+ +12 KiB +12 KiB `, 'm'));
    assert.match(stdout, /^total: .+ in \d+ buffers?/m);
  }),
);

kernelTest('another user learns what could not be read', () =>
  withBuffers(['hidden'], () => {
    const { status, stderr } = dmabuf(['ps'], nobody);
    assert.equal(status, 0);
    assert.match(stderr, /^dmabuf ps: \d+ process(es)? could not be read \(EACCES\)/m);
    const { attempts, unreadable } = json<Snapshot>(['ls'], nobody);
    assert.ok(unreadable.some(({ pid, error }) => pid === process.pid && error === 'EACCES'));
    const bpf = attempts.find(({ source }) => source === 'bpf');
    assert.deepEqual(Object.keys(bpf?.error ?? {}), ['code', 'message', 'hint']);
  }),
);

kernelTest('show tells the descriptors of a process', () =>
  withBuffers(['shown'], ([buffer]) => {
    const taken = json<Snapshot & { descriptors: { fd: number; name: string }[] }>(['show', self]);
    assert.deepEqual(
      taken.descriptors.map(({ fd, name }) => [fd, name]),
      [[buffer?.fd, 'shown']],
    );
    assert.deepEqual(json(['show', self, String(buffer?.fd)]), {
      ...buffer?.info(),
      references: buffer?.info().references,
    });
  }),
);

kernelTest('show ends with 1 where there is no dma-buf, and with 2 where nothing can be known', () => {
  const other = spawn('sleep', ['1000000'], { stdio: 'ignore' });
  try {
    assert.equal(dmabuf(['show', String(other.pid)]).status, 1);
    const { status, stderr } = dmabuf(['show', self, '0']);
    assert.deepEqual(
      [status, stderr],
      [1, `dmabuf show: descriptor 0 of process ${self} is not a dma-buf\n`],
    );
    const refused = dmabuf(['show', String(other.pid)], nobody);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /^dmabuf show: EACCES: [^\n]+\n$/);
    const gone = dmabuf(['show', '2147483647']);
    assert.equal(gone.status, 2);
    assert.match(gone.stderr, /^dmabuf show: ESRCH: [^\n]+\n$/);
  } finally {
    other.kill();
  }
});

/** A command that leaves a process behind that holds a buffer, but none of the pipes that spawnSync() waits for. */
const leaky = `
  const child = require('node:child_process').spawn(process.execPath, ['--input-type=module', '-e', \`
    import { allocateSync } from '${packageRoot}/dist/package/index.js';
    globalThis.kept = allocateSync(1 << 20, { name: 'left' });
    process.stdout.write('ready');
    setInterval(() => {}, 1e9);
  \`], { detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
  child.stdout.once('data', () => process.exit(3));
`;

kernelTest('diff shows what a command leaves behind, and ends with its status', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const output = join(folder, 'diff.json');
  const { status, stdout, stderr } = dmabuf([
    'diff',
    '--json',
    '--output',
    output,
    '--',
    process.execPath,
    '-e',
    leaky,
  ]);
  assert.deepEqual([status, stdout, stderr], [3, '', '']);
  const found = JSON.parse(readFileSync(output, 'utf8')) as SnapshotDiff;
  rmSync(folder, { recursive: true });
  const [grown] = found.grown;
  process.kill(grown?.pid as number, 'SIGKILL');
  assert.equal(grown?.growth, 1 << 20);
  assert.deepEqual(
    found.appeared.map(({ name, size }: BufferUsage) => [name, size]),
    [['left', 1 << 20]],
  );
  assert.deepEqual(found.total, { buffers: 1, size: 1 << 20 });
});

kernelTest('diff in words, after what the command prints', () => {
  const { status, stdout } = dmabuf([
    'diff',
    '--',
    process.execPath,
    '-e',
    `console.log('its own words');${leaky}`,
  ]);
  assert.equal(status, 3);
  const pid = Number(/^ *(\d+) +\+1 MiB +1 MiB +1 +node$/m.exec(stdout)?.[1]);
  process.kill(pid, 'SIGKILL');
  assert.match(stdout, /^its own words\nCHANGE /);
  assert.match(stdout, /^appeared +\d+ +1 MiB +system +\d+ +left /m);
  assert.match(stdout, /^exporter system: \+1 MiB in \+1 buffer\ntotal: \+1 MiB in \+1 buffer\n$/m);
});

kernelTest('diff cuts nothing off in a file, however narrow the terminal is', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const command = `stty cols 20; ${node} diff --quiet --output '${folder}/diff' -- '${process.execPath}' -e "$LEAKY"`;
  const { status } = await new Terminal(command, { LEAKY: leaky }).end();
  const text = readFileSync(join(folder, 'diff'), 'utf8');
  rmSync(folder, { recursive: true });
  const pid = Number(/^ *(\d+) +\+1 MiB +1 MiB +1 +node$/m.exec(text)?.[1]);
  process.kill(pid, 'SIGKILL');
  assert.equal(status, 3);
  assert.match(text, /^appeared +\d+ +1 MiB +system +\d+ +left /m);
});

kernelTest('diff passes on how the command ended', () => {
  assert.equal(dmabuf(['diff', '--', 'sh', '-c', 'kill -SEGV $$']).status, 139);
  assert.equal(dmabuf(['diff', '--', '/no/such/program']).status, 127);
  assert.equal(dmabuf(['diff', '--', '/etc/passwd']).status, 126);
  assert.equal(dmabuf(['diff', '--interval', '0']).status, 0);
});

kernelTest('doctor finds all that is essential for root, and not for others', () => {
  const findings = json<Finding[]>(['doctor']);
  assert.ok(findings.every(({ status }) => status !== 'fail'));
  assert.ok(findings.some(({ subject, status }) => subject === 'heap system' && status === 'ok'));
  assert.equal(findings.find(({ subject }) => subject === 'bpf')?.status, hasIterator ? 'ok' : 'warn');
  const refused = dmabuf(['doctor'], nobody);
  assert.equal(refused.status, 1);
  assert.match(refused.stdout, /^FAIL {2}allocate: /m);
  assert.match(refused.stdout, /^warn {2}heap system: .+EACCES\n {6}-> Give a group access/m);
});

kernelTest(
  'pin lets another user list all buffers and their holders, until it is removed',
  () =>
    withBuffers(['pinned'], ([buffer]) => {
      const inode = buffer?.info().inode;
      const paths = json<string[]>(['pin', '--holders', '--group', String(nobody.gid), '--mode', '0440']);
      try {
        assert.deepEqual(paths, [
          '/sys/fs/bpf/dmabuf/buffers',
          '/sys/fs/bpf/dmabuf/descriptors',
          '/sys/fs/bpf/dmabuf/mappings',
        ]);
        const seen = json<Snapshot>(['ls'], nobody).buffers.find((found) => found.inode === inode);
        assert.equal(seen?.name, 'pinned');
        assert.deepEqual(
          seen?.holders.map(({ pid }) => pid),
          [process.pid],
        );
      } finally {
        assert.equal(dmabuf(['pin', '--remove']).status, 0);
      }
      assert.equal(dmabuf(['pin', '--remove']).status, 2);
    }),
  needsIterator,
);

kernelTest('pin without rights, or without the iterator, is an error in one line', () => {
  const { status, stdout, stderr } = dmabuf(['pin'], hasIterator ? nobody : {});
  assert.deepEqual([status, stdout], [2, '']);
  assert.match(
    stderr,
    /^dmabuf pin: (EACCES|EPERM|EOPNOTSUPP|ENOENT|ERR_DMABUF_UNSUPPORTED_KERNEL): [^\n]+\n$/,
  );
});

kernelTest('top for scripts: as often as asked, one snapshot a line', () =>
  withBuffers(['watched'], () => {
    const { status, stdout } = dmabuf(['top', '--iterations', '3', '--interval', '0', '--json']);
    assert.equal(status, 0);
    const snapshots = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Snapshot);
    assert.equal(snapshots.length, 3);
    for (const { buffers } of snapshots) assert.ok(buffers.some(({ name }) => name === 'watched'));
    const csv = dmabuf([
      'top',
      '--iterations',
      '2',
      '--interval',
      '0',
      '--csv',
      '--view',
      'exporters',
    ]).stdout;
    assert.match(csv, /^time,exporter,buffers,size\n([^,\n]+,system,\d+,\d+\n){2}$/);
  }),
);

kernelTest('a reader that goes away ends it without a word', async () => {
  const child = spawn(
    process.execPath,
    [main, 'top', '--iterations', '1000000', '--interval', '0', '--json'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  await once(child.stdout, 'data');
  child.stdout.destroy();
  const [status] = await once(child, 'close');
  assert.deepEqual([status, stderr], [141, '']);
});

const node = `'${process.execPath}' '${main}'`;
const leavesScreen = '\x1b[?25h\x1b[?1049l';

kernelTest('top obeys the keyboard, and q gives the terminal back', () =>
  withBuffers(['live\x1b[31m'], async () => {
    const terminal = new Terminal(`${node} top; status=$?; stty -a; exit $status`);
    await terminal.until('\x1b[?1049h', 'processes by rss', 'PID');
    terminal.type('b');
    await terminal.until('buffers by size', 'live\\x1b[31m');
    terminal.type('s');
    await terminal.until('buffers by inode');
    terminal.type('e');
    await terminal.until('exporters by size');
    terminal.type(' ');
    await terminal.until('PAUSED');
    terminal.type('h');
    await terminal.until('Any key ends this help');
    terminal.type('x-');
    await terminal.until('PAUSED');
    terminal.type(' ');
    await terminal.until('every 2 s');
    terminal.type('q');
    const { shown, status } = await terminal.end();
    assert.equal(status, 0);
    const rest = shown.slice(shown.lastIndexOf(leavesScreen));
    for (const flag of ['isig', 'icanon', 'echo']) assert.match(rest, new RegExp(`\\s${flag}\\s`));
  }),
);

kernelTest('top gives the terminal back when Ctrl-C is typed', async () => {
  const terminal = new Terminal(`${node} top`);
  await terminal.until('q: quit');
  terminal.type('\x03');
  const { shown, status } = await terminal.end();
  assert.equal(status, 130);
  assert.ok(shown.endsWith(leavesScreen), JSON.stringify(shown.slice(-100)));
});

kernelTest('top gives the terminal back on SIGTERM', async () => {
  const terminal = new Terminal(`echo pid=$$.; exec ${node} top`);
  const pid = Number(/pid=(\d+)/.exec(await terminal.until('pid=', '.'))?.[1]);
  await terminal.until('q: quit');
  process.kill(pid, 'SIGTERM');
  const { shown, status } = await terminal.end();
  assert.equal(status, 143);
  assert.ok(shown.endsWith(leavesScreen), JSON.stringify(shown.slice(-100)));
});

kernelTest('top gives the terminal back before it says what has failed', async () => {
  const { shown, status } = await new Terminal(`${node} top --source ${missingSource}`).end();
  assert.equal(status, 2);
  assert.match(shown.slice(shown.lastIndexOf(leavesScreen)), /dmabuf top: ERR_DMABUF_UNSUPPORTED_KERNEL: /);
});

kernelTest('a table fits the terminal, with bold headings unless NO_COLOR is set', () =>
  withBuffers(['a rather long name of a buffer'], async () => {
    const { shown } = await new Terminal(`${node} ls --source procfs --quiet`).end();
    assert.ok(shown.includes('\x1b[1m'));
    const plain = await new Terminal(`${node} ls --source procfs --quiet`, { NO_COLOR: '1' }).end();
    assert.ok(!plain.shown.includes('\x1b'));
    for (const line of plain.shown.split('\r\n')) assert.ok(line.length <= 70, line);
    assert.match(plain.shown, /a rather/);
  }),
);
