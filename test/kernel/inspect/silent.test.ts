import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { release } from 'node:os';
import { allocateSync } from 'dmabuf';
import { channelTest } from '../../support/channel-test.js';
import { compiled } from '../../support/compiled.js';
import { until } from '../../support/event-loop.js';
import { holderSources } from '../../support/inspect.js';
import { MountPoint } from '../../support/mount-point.js';
import { Peer } from '../../support/peers.js';
import type { InspectReport } from '../../support/programs/inspects.js';
import { type RunningProgram, startProgram } from '../../support/programs.js';

// Looking at processes of others that use a file system whose server does not answer (silent-fuse.c). Who looks is a
// process of its own, in case that it should wait for ever.

const noFuse: string | false = existsSync('/dev/fuse') ? false : 'the module fuse is not loaded';

const [major = 0, minor = 0] = release().split('.').map(Number);
/** Whether reading a process's mappings waits for a thread that changes them. */
const mapsWait = major < 6 || (major === 6 && minor < 17);

interface Scene {
  fuse: Peer;
  /** One for each user. */
  fuses: readonly Peer[];
  /** Takes snapshots; fails when the file system is asked for anything meanwhile. */
  inspect(sources: string, holds?: string): Promise<InspectReport>;
}

function silentTest(
  name: string,
  body: (scene: Scene) => Promise<void>,
  { users = [0], unless = noFuse }: { users?: readonly number[]; unless?: string | false } = {},
): void {
  channelTest(
    name,
    async () => {
      const mounts = users.map(() => new MountPoint());
      const fuses = mounts.map(
        ({ path }, index) => new Peer(compiled('silent-fuse'), [path, String(users[index])]),
      );
      const fuse = fuses[0] as Peer;
      const inspectors: RunningProgram<InspectReport>[] = [];
      const inspect = (sources: string, holds?: string): Promise<InspectReport> => {
        const env = { ...process.env, DMABUF_TEST_SOURCES: sources, DMABUF_TEST_HOLDS: holds };
        const inspector = startProgram<InspectReport>('inspects', { env });
        inspectors.push(inspector);
        const asked = fuse.event().then((request) => assert.fail(`it was asked: ${request}`));
        asked.catch(() => {});
        return Promise.race([inspector.report, asked]);
      };
      try {
        for (const one of fuses) assert.equal(await one.line(), 'mounted', one.errors);
        await body({ fuse, fuses, inspect });
      } finally {
        // Without its server the file system fails at once, and lets everybody go.
        for (const one of fuses) one.kill();
        for (const one of fuses) await one.ended;
        for (const inspector of inspectors) inspector.kill();
        await Promise.all(inspectors.map(({ end }) => end));
        for (const mount of mounts) mount.remove();
      }
    },
    unless,
  );
}

silentTest(
  'a file whose path looks like a dma-buf’s is asked nothing, open or mapped',
  async ({ fuse, inspect }) => {
    const [pid, fd] = (await fuse.ask('map dmabuf:x')).split(' ');
    await fuse.have('detach');
    assert.equal(readlinkSync(`/proc/${pid}/fd/${fd}`), '/dmabuf:x');
    assert.match(readFileSync(`/proc/${pid}/maps`, 'latin1'), / \/dmabuf:x$/m);
    const { snapshots, errors } = await inspect(['auto', ...holderSources].join(','));
    assert.deepEqual(errors, {});
    for (const taken of Object.values(snapshots)) {
      assert.deepEqual([taken.buffers, taken.unreadable], [[], []]);
    }
  },
);

silentTest('a process that keeps its memory map locked keeps nobody waiting', async ({ fuse, inspect }) => {
  using buffer = allocateSync(4096);
  const [pid] = (await hang(fuse, 1)) as [number];
  const { snapshots, errors } = await inspect('procfs,auto');
  assert.deepEqual(errors, {});
  for (const taken of Object.values(snapshots)) {
    const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
    assert.ok(found?.holders.some((holder) => holder.pid === process.pid));
    // Linux 7.2 reads the mappings without waiting.
    const unread = mapsWait ? [{ pid, error: 'ETIMEDOUT', what: 'mappings' }] : [];
    assert.deepEqual(taken.unreadable, unread);
    // Its iterators wait.
    assert.ok(taken.source.includes('procfs'));
  }
});

const noWait: string | false = noFuse || (mapsWait ? false : 'Linux 7.2 reads the mappings without waiting');

const mmapNumber = process.arch === 'arm64' ? '222' : '9';

/** Whether a process waits in mmap(2), for a private mapping (which `hang` makes, and not what comes before). */
function isMapping(pid: number): boolean {
  const [call, , , , flags] = readFileSync(`/proc/${pid}/syscall`, 'latin1').split(' ');
  return call === mmapNumber && flags === '0x2';
}

/** Has so many processes of a user wait with their memory maps locked; returns their numbers. */
async function hang(fuse: Peer, count: number): Promise<number[]> {
  const pids: number[] = [];
  for (let index = 0; index < count; index++) {
    const pid = Number(await fuse.ask('hang'));
    await until(() => isMapping(pid));
    pids.push(pid);
  }
  return pids;
}

const errorsOf = (pids: readonly number[], unreadable: readonly { pid: number; error: string }[]): string[] =>
  unreadable
    .filter(({ pid }) => pids.includes(pid))
    .map(({ error }) => error)
    .sort();

silentTest(
  "a user's processes that keep looks waiting hide no others, and each that was left out is named",
  async ({ fuse, inspect }) => {
    using buffer = allocateSync(4096);
    const pids = await hang(fuse, 40);
    const { snapshots, errors } = await inspect('procfs,auto');
    assert.deepEqual(errors, {});
    for (const taken of Object.values(snapshots)) {
      const found = taken.buffers.find(({ inode }) => inode === buffer.inode);
      assert.ok(found?.holders.some((holder) => holder.pid === process.pid));
      const refused = errorsOf(pids, taken.unreadable);
      assert.deepEqual(refused, [...Array(16).fill('EAGAIN'), ...Array(24).fill('ETIMEDOUT')]);
    }
  },
  { users: [1000], unless: noWait },
);

silentTest(
  'who looks always sees what he holds himself',
  async ({ fuses, inspect }) => {
    using _buffer = allocateSync(4096);
    const pids = [await hang(fuses[0] as Peer, 20), await hang(fuses[1] as Peer, 20)].flat();
    const { pid: self, snapshots, errors } = await inspect('procfs,auto', 'own');
    assert.deepEqual(errors, {});
    for (const taken of Object.values(snapshots)) {
      const own = taken.buffers.find(({ name }) => name === 'own');
      assert.deepEqual(
        own?.holders.map(({ pid }) => pid),
        [self],
      );
      assert.equal(errorsOf(pids, taken.unreadable).length, 40);
    }
    // There is no thread left for anybody else's, who are named.
    assert.deepEqual(errorsOf([process.pid], snapshots.auto?.unreadable ?? []), ['EAGAIN']);
  },
  { users: [1000, 1001], unless: noWait },
);
