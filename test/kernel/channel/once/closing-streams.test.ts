// Files that peers have sent over streams are closed without blocking the event loop, as in closing.test.ts for channels.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { FdStream } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { checkPause, endAll, start, startCloser, withSilentFiles } from '../../../support/closing.js';
import { compiled } from '../../../support/compiled.js';
import { threadNames } from '../../../support/descriptors.js';
import { notRoot } from '../../../support/needs.js';

function pairs(count: number): [FdStream[], FdStream[]] {
  const all = Array.from({ length: count }, () => FdStream.pair());
  return [all.map(([one]) => one), all.map(([, other]) => other)];
}

for (const how of ['nothing', 'refused', 'queue', 'unclaimed', 'numbers']) {
  for (const count of [1, 64]) {
    channelTest(`sockets that linger, in streams of ${count} peers (${how}), hold nothing up`, async (t) => {
      const [here, there] = pairs(count);
      const lingerer = start(compiled('lingerer'), [`${count}`], there);
      const program = startCloser('closes-streams', how, here);
      for (const stream of [...here, ...there]) stream.destroy();
      try {
        await program.next();
        lingerer.stdin?.write('send 1\n');
        await once(lingerer.stdout as NodeJS.ReadableStream, 'data');
        program.child.stdin?.write('go\n');
        const reported = await program.next();
        checkPause(t, reported);
        if (how === 'refused') {
          assert.deepEqual(reported.results, new Array(count).fill('ERR_DMABUF_TOO_MANY_HANDLES'));
        }
        const names = threadNames(program.child.pid as number);
        assert.ok(
          how === 'nothing' || names.includes('dmabuf-close'),
          `nobody waits for the socket: ${names}`,
        );
      } finally {
        await endAll(lingerer, program.child);
      }
    });
  }
}

for (const how of ['refused', 'queue', 'unclaimed', 'numbers', 'few']) {
  channelTest(
    `files of a file system that never answers, in a stream (${how}), hold nothing up`,
    async (t) => {
      await withSilentFiles('closes-streams', pairs, how, 1, async ([fuse], program, innocent) => {
        innocent.destroy();
        await fuse.have(`send 5${' file'.repeat(10)}`);
        program.child.stdin?.write('go\n');
        const reported = await program.next();
        checkPause(t, reported);
        // Copies of some of them may occupy both threads that their sender may have.
        if (how === 'few') assert.match(String(reported.results), /^(EMFILE|ERR_DMABUF_PEER_DROPPED)$/);
      });
    },
    notRoot,
  );
}

channelTest(
  'a peer that sends more such files in a stream than can be closed is dropped',
  async (t) => {
    await withSilentFiles('closes-streams', pairs, 'flood', 1, async ([fuse], program, innocent) => {
      innocent.destroy();
      program.child.stdin?.write('go\n');
      for (let count = 0; count < 9; count++) fuse.tell(`send 10001${' file'.repeat(70)}`);
      const reported = await program.next();
      checkPause(t, reported);
      assert.deepEqual(reported.results, ['ERR_DMABUF_PEER_DROPPED', 'the end']);
    });
  },
  notRoot,
);
