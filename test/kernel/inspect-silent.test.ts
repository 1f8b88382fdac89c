import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { release } from 'node:os';
import { allocateSync } from 'dmabuf';
import { compiled } from '../support/compiled.js';
import { holderSources } from '../support/inspect.js';
import { MountPoint } from '../support/mount-point.js';
import { channelTest, Peer } from '../support/peers.js';
import type { InspectReport } from '../support/programs/inspects.js';
import { type RunningProgram, startProgram } from '../support/programs.js';

// Looking at processes of others that use a file system whose server does not answer (silent-fuse.c). Who looks is a
// process of its own, in case that it should wait for ever.

const noFuse: string | false = existsSync('/dev/fuse') ? false : 'the module fuse is not loaded';

const [major = 0, minor = 0] = release().split('.').map(Number);
/** Whether a look at a process's mappings waits for whoever changes them. */
const mapsWait = major < 6 || (major === 6 && minor < 17);

interface Scene {
  fuse: Peer;
  /** Takes snapshots; fails when the file system is asked for anything meanwhile. */
  inspect(sources: string): Promise<InspectReport>;
}

function silentTest(name: string, body: (scene: Scene) => Promise<void>): void {
  channelTest(
    name,
    async () => {
      const mount = new MountPoint();
      const fuse = new Peer(compiled('silent-fuse'), [mount.path, '0']);
      const inspectors: RunningProgram<InspectReport>[] = [];
      const inspect = (sources: string): Promise<InspectReport> => {
        const env = { ...process.env, DMABUF_TEST_SOURCES: sources };
        const inspector = startProgram<InspectReport>('inspects', { env });
        inspectors.push(inspector);
        const asked = fuse.event().then((request) => assert.fail(`it was asked: ${request}`));
        asked.catch(() => {});
        return Promise.race([inspector.report, asked]);
      };
      try {
        assert.equal(await fuse.line(), 'mounted', fuse.errors);
        await body({ fuse, inspect });
      } finally {
        // Without its server the file system fails at once, and lets everybody go.
        fuse.kill();
        await fuse.ended;
        for (const inspector of inspectors) inspector.kill();
        await Promise.all(inspectors.map(({ end }) => end));
        mount.remove();
      }
    },
    noFuse,
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
  const pid = Number(await fuse.ask('hang'));
  assert.equal(await fuse.event(), '!16');
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
