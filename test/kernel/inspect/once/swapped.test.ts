// Looking at a process that makes a descriptor another file between the look at its name and that at its fdinfo: one for
// whose fdinfo the kernel waits, and not even SIGKILL ends such a wait. Who looks is a process of its own.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { adviceOnWaiting } from '../../../../lib/buffer/advice.js';
import { channelTest } from '../../../support/channel-test.js';
import { compiled } from '../../../support/compiled.js';
import { threadNames } from '../../../support/descriptors.js';
import { notRoot } from '../../../support/needs.js';
import { nodePeer, Peer, patience } from '../../../support/peers.js';
import { packageRoot } from '../../../support/programs.js';

const main = join(packageRoot, 'dist/package/cli.js');

/** How it ends, while the process that keeps the lock goes on. */
function endOf({ ended }: Peer): Promise<unknown> {
  const late = new Promise((resolve) => setTimeout(resolve, patience, 'it goes on').unref());
  return Promise.race([ended, late]);
}

interface Scene {
  pid: number;
  fd: string;
  /** Who looks; ended behind the process that is looked at, whose end lets everybody go. */
  add(peer: Peer): Peer;
}

function swappedTest(name: string, body: (scene: Scene) => Promise<void>): void {
  channelTest(
    name,
    async () => {
      const holder = new Peer(compiled('holds-lock'), ['swap']);
      const lookers: Peer[] = [];
      const add = (peer: Peer): Peer => {
        lookers.push(peer);
        return peer;
      };
      try {
        await body({ pid: holder.pid, fd: await holder.line(), add });
      } finally {
        holder.kill();
        await holder.ended;
        for (const looker of lookers) looker.kill();
        for (const looker of lookers) await looker.ended;
      }
    },
    notRoot,
  );
}

for (const [how, outcome] of [
  [
    'readFdInfo',
    (pid: number, fd: string) => ({
      code: 'ETIMEDOUT',
      syscall: 'read',
      path: `/proc/${pid}/fdinfo/${fd}`,
      hint: `${adviceOnWaiting}.`,
    }),
  ],
  ['snapshot', (pid: number) => ({ pid, error: 'ETIMEDOUT', what: 'both' })],
] as const) {
  for (const signal of [undefined, 'SIGTERM', 'SIGKILL'] as const) {
    swappedTest(
      `${how}: a descriptor that is swapped keeps nobody waiting, nor from ending (${signal ?? 'exit'})`,
      async ({ pid, fd, add }) => {
        const looker = add(nodePeer('looks-at-swapped', [how, String(pid), fd]));
        const [caught, again] = JSON.parse(await looker.line());
        assert.deepEqual(caught, outcome(pid, fd));
        assert.equal(again.code ?? again.error, 'ETIMEDOUT');
        const names = threadNames(looker.pid);
        assert.equal(names.filter((one) => one === 'dmabuf-look').length, 1, String(names));
        if (signal === undefined) looker.finish();
        else looker.kill(signal);
        assert.equal(await endOf(looker), signal ?? 0);
      },
    );
  }
}

swappedTest('dmabuf show: a descriptor that is swapped costs an error', async ({ pid, fd, add }) => {
  const statuses = new Set<unknown>();
  // It is a dma-buf (0), another file (1), or one that cannot be read.
  for (let tries = 0; tries < 200 && !statuses.has(2); tries++) {
    const command = add(new Peer(process.execPath, [main, 'show', String(pid), fd]));
    const status = await endOf(command);
    statuses.add(status);
    assert.ok(status === 0 || status === 1 || status === 2, String(status));
    if (status === 2) assert.match(command.errors, /^dmabuf show: ETIMEDOUT: .*\/proc\/\d+\/fdinfo\/\d+/);
  }
  assert.ok(statuses.has(2), 'it was never caught');
});
