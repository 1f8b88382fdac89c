import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after } from 'node:test';
import { Worker } from 'node:worker_threads';
import { allocateSync, DmaBuf, importFrom } from 'dmabuf';
import { channelTest } from '../../support/channel-test.js';
import { withPtraceScope } from '../../support/channels.js';
import { closeOnExec, flagsOf, inheritedFd, leavesNothing, notOpen } from '../../support/descriptors.js';
import { turns } from '../../support/event-loop.js';
import { throwsCode } from '../../support/expect.js';
import { hasKernel } from '../../support/kernel-test.js';
import { notRoot } from '../../support/needs.js';
import type { ImportReport } from '../../support/programs/imports.js';
import { type RunningProgram, startProgram } from '../../support/programs.js';
import { openStrangers } from '../../support/strangers.js';

const noYama: string | false = existsSync('/proc/sys/kernel/yama/ptrace_scope')
  ? notRoot
  : 'this kernel has no Yama';

/** A process with buffers and other files, by their descriptors. */
interface Held {
  buffer: number;
  inode: number;
  file: number;
  path: number;
}

/** Starts a process that holds a buffer until `stop` is called. */
async function startHolder(
  options: Parameters<typeof startProgram>[1] = {},
): Promise<Held & { pid: number; stop(): Promise<void> }> {
  const program: RunningProgram<null> = startProgram('holds', options);
  const held = JSON.parse(await program.line()) as Held;
  return {
    ...held,
    pid: program.pid,
    async stop() {
      program.goOn();
      await program.end;
    },
  };
}

/** A holder that runs as an ordinary user, and so gets its buffer from this process. */
async function startUser(uid: number): ReturnType<typeof startHolder> {
  using buffer = allocateSync(8192);
  const nothing = Array.from({ length: inheritedFd - 3 }, () => 'ignore' as const);
  return startHolder({ uid, gid: uid, fds: [...nothing, buffer.fd] });
}

type Holder = Awaited<ReturnType<typeof startHolder>>;

// Starting a process takes long in a guest.
const holder: Holder = hasKernel ? await startHolder() : (undefined as never);
const user: Holder = hasKernel && !notRoot ? await startUser(65534) : (undefined as never);
after(async () => {
  await holder?.stop();
  await user?.stop();
});

channelTest("a child's buffer is imported: the same inode, the same memory, close-on-exec", async () => {
  using buffer = importFrom(holder.pid, holder.buffer);
  assert.deepEqual([buffer.inode, buffer.size], [holder.inode, 8192]);
  assert.ok((flagsOf(buffer.fd) & closeOnExec) !== 0);
  const seen = Buffer.alloc(14);
  buffer.read(seen);
  assert.equal(seen.toString(), 'from the child');
});

channelTest("importing does not change the other process's descriptors", async () => {
  const list = (): string[] => readdirSync(`/proc/${holder.pid}/fd`).sort();
  const flags = (): string => readFileSync(`/proc/${holder.pid}/fdinfo/${holder.buffer}`, 'latin1');
  const before = [list(), /flags:.*/.exec(flags())?.[0]];
  importFrom(holder.pid, holder.buffer).close();
  assert.deepEqual([list(), /flags:.*/.exec(flags())?.[0]], before);
});

channelTest("a buffer of one's own process can be imported too", () => {
  using own = allocateSync(4096);
  using copy = importFrom(process.pid, own.fd);
  using other = DmaBuf.importFrom(process.pid, own.fd);
  assert.deepEqual([copy.inode, other.inode], [own.inode, own.inode]);
  assert.notEqual(copy.fd, own.fd);
});

channelTest('importing twice gives two descriptors of the same buffer', async () => {
  using one = importFrom(holder.pid, holder.buffer);
  using two = importFrom(holder.pid, holder.buffer);
  assert.notEqual(one.fd, two.fd);
  assert.equal(one.inode, two.inode);
});

channelTest('importing and closing leaves nothing', async () => {
  leavesNothing(() => {
    for (let round = 0; round < 50; round++) importFrom(holder.pid, holder.buffer).close();
  });
});

// ---- what cannot be imported

channelTest('a descriptor that is no dma-buf is ERR_DMABUF_NOT_DMABUF with both numbers', async () => {
  leavesNothing(() => {
    const error = throwsCode(() => importFrom(holder.pid, holder.file), 'ERR_DMABUF_NOT_DMABUF');
    assert.match(error.message, new RegExp(`${holder.file}.*${holder.pid}`));
  });
});

channelTest('a path of a dma-buf is ERR_DMABUF_NOT_DMABUF: it can do nothing', async () => {
  // Whether this process knows already which file system dma-bufs are on, or not.
  importFrom(holder.pid, holder.buffer).close();
  leavesNothing(() => throwsCode(() => importFrom(holder.pid, holder.path), 'ERR_DMABUF_NOT_DMABUF'));
});

channelTest('every file that is no dma-buf is ERR_DMABUF_NOT_DMABUF, and nothing leaks', async () => {
  const strangers = await openStrangers();
  try {
    for (const [kind, fd] of strangers.fds) {
      leavesNothing(() => throwsCode(() => importFrom(process.pid, fd), 'ERR_DMABUF_NOT_DMABUF', kind));
    }
  } finally {
    strangers.close();
  }
});

channelTest('a sync_file is ERR_DMABUF_NOT_DMABUF', () => {
  using buffer = allocateSync(4096);
  using file = buffer.exportSyncFile('read');
  throwsCode(() => importFrom(process.pid, file.fd), 'ERR_DMABUF_NOT_DMABUF');
});

channelTest('a number that is not open there is EBADF with both numbers', async () => {
  using _own = allocateSync(4096);
  leavesNothing(() => {
    const error = throwsCode(() => importFrom(holder.pid, notOpen), 'EBADF');
    assert.deepEqual([error.errno, error.syscall], [-9, 'pidfd_getfd']);
    assert.match(error.message, new RegExp(`${holder.pid}.*${notOpen}`));
  });
});

channelTest('a process that is gone is ESRCH with its number; what was imported from it stays', async () => {
  const other = await startHolder();
  using buffer = importFrom(other.pid, other.buffer);
  await other.stop();
  const error = throwsCode(() => importFrom(other.pid, other.buffer), 'ESRCH');
  assert.deepEqual([error.errno, error.syscall], [-3, 'pidfd_open']);
  assert.match(error.message, new RegExp(`${other.pid}`));
  const seen = Buffer.alloc(14);
  buffer.read(seen);
  assert.equal(seen.toString(), 'from the child');
});

channelTest('the largest number of a process is ESRCH', () => {
  throwsCode(() => importFrom(2 ** 31 - 1, 0), 'ESRCH');
});

channelTest('a process that has ended and was not waited for is an error, and nothing leaks', async () => {
  // The shell becomes a program that never waits for its child.
  const parent = spawn('sh', ['-c', 'sh -c "echo \\$\\$" & exec sleep 1000'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [text] = (await once(parent.stdout, 'data')) as [Buffer];
  const zombie = Number(text.toString());
  while (!/^State:\tZ/m.test(readFileSync(`/proc/${zombie}/status`, 'latin1'))) await turns(1);
  leavesNothing(() => {
    let error: Error & { code?: string };
    try {
      importFrom(zombie, 0);
      assert.fail('no error');
    } catch (reason) {
      error = reason as Error;
    }
    assert.match(error.code ?? '', /^(ESRCH|EBADF)$/, error.message);
  });
  parent.kill();
  await once(parent, 'close');
});

channelTest(
  'a thread of the kernel has no descriptors: EBADF',
  () => {
    leavesNothing(() => throwsCode(() => importFrom(2, 0), 'EBADF'));
  },
  readFileSync('/proc/2/comm', 'latin1').startsWith('kthreadd')
    ? notRoot
    : 'process 2 is no kernel thread here',
);

channelTest('the number of a thread is refused, and the message says that it may be one', async () => {
  const worker = new Worker('setInterval(() => {}, 1000)', { eval: true });
  await once(worker, 'online');
  const threads = readdirSync('/proc/self/task').map(Number);
  using own = allocateSync(4096);
  for (const thread of threads) {
    if (thread === process.pid) continue;
    let message = '';
    try {
      importFrom(thread, own.fd).close();
    } catch (error) {
      message = (error as Error).message;
      assert.match((error as { code: string }).code, /^(EINVAL|ENOENT)$/);
    }
    assert.match(message, new RegExp(`${thread} is not a process.*thread`));
  }
  await worker.terminate();
});

// ---- what may not be imported

/** Has a program that runs as `uid` import, and returns what came of it. */
async function importAs(uid: number, pid: number, fd: number): Promise<ImportReport> {
  const env = { ...process.env, DMABUF_TEST_PID: String(pid), DMABUF_TEST_FD: String(fd) };
  return startProgram<ImportReport>('imports', { uid, gid: uid, env }).report;
}

channelTest(
  "an ordinary user may not import from root's process: EPERM, and whose it is",
  async () => {
    using buffer = allocateSync(4096);
    const { error, left } = await importAs(65534, process.pid, buffer.fd);
    assert.deepEqual([error?.name, error?.code, error?.syscall], ['DmaBufError', 'EPERM', 'pidfd_getfd']);
    assert.match(error?.message ?? '', /user 0, and this process to 65534/);
    assert.equal(left, 0);
  },
  notRoot,
);

channelTest(
  "one ordinary user may not import from another's process: EPERM, and whose it is",
  async () => {
    const { error } = await importAs(65533, user.pid, inheritedFd);
    assert.equal(error?.code, 'EPERM');
    assert.match(error?.message ?? '', /user 65534, and this process to 65533/);
  },
  notRoot,
);

channelTest(
  "root imports from an ordinary user's process",
  async () => {
    importFrom(user.pid, inheritedFd).close();
  },
  notRoot,
);

channelTest(
  'with ptrace scope 0 an ordinary user imports from another process of the same user',
  () =>
    withPtraceScope(0, async () => {
      const { inode, error } = await importAs(65534, user.pid, inheritedFd);
      assert.deepEqual([inode, error], [user.inode, undefined]);
    }),
  noYama,
);

channelTest(
  'with ptrace scope 1 that is EPERM, and the message says why and what to do',
  () =>
    withPtraceScope(1, async () => {
      const { error } = await importAs(65534, user.pid, inheritedFd);
      assert.equal(error?.code, 'EPERM');
      assert.match(error?.message ?? '', /ptrace_scope\) is 1.*kernel\.yama\.ptrace_scope=0/);
    }),
  noYama,
);

channelTest(
  'with ptrace scope 1 an ordinary user imports from a child of its own',
  () =>
    withPtraceScope(1, async () => {
      using buffer = allocateSync(4096);
      const nothing = Array.from({ length: inheritedFd - 3 }, () => 'ignore' as const);
      const env = { ...process.env, DMABUF_TEST_PID: 'child', DMABUF_TEST_FD: String(inheritedFd) };
      const { inode, error } = await startProgram<ImportReport>('imports', {
        uid: 65534,
        gid: 65534,
        env,
        fds: [...nothing, buffer.fd],
      }).report;
      assert.deepEqual([inode, error], [buffer.inode, undefined]);
    }),
  noYama,
);

channelTest(
  'with ptrace scope 2 it is EPERM without CAP_SYS_PTRACE, and root may',
  () =>
    withPtraceScope(2, async () => {
      const { error } = await importAs(65534, user.pid, inheritedFd);
      assert.equal(error?.code, 'EPERM');
      assert.match(error?.message ?? '', /ptrace_scope\) is 2: it requires CAP_SYS_PTRACE/);
      importFrom(user.pid, inheritedFd).close();
    }),
  noYama,
);

channelTest(
  'a process of the same user that may not be dumped is EPERM, and the message says so',
  () =>
    withPtraceScope(0, async () => {
      // Who was root and dropped it.
      using buffer = allocateSync(8192);
      const nothing = Array.from({ length: inheritedFd - 3 }, () => 'ignore' as const);
      const env = { ...process.env, DMABUF_TEST_BECOME: '65534' };
      const dropped = await startHolder({ fds: [...nothing, buffer.fd], env });
      const { error } = await importAs(65534, dropped.pid, inheritedFd);
      assert.equal(error?.code, 'EPERM');
      assert.match(error?.message ?? '', /dumped/);
      await dropped.stop();
    }),
  noYama,
);
