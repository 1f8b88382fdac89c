// Nobody who has nothing to do with a process keeps its event loop waiting, or ends it.

import assert from 'node:assert/strict';
import { channelTest } from '../../support/channel-test.js';
import { compiled } from '../../support/compiled.js';
import { notRoot } from '../../support/needs.js';
import { nodePeer, Peer } from '../../support/peers.js';
import type { FewWatchesReport } from '../../support/programs/few-watches.js';
import { runProgram } from '../../support/programs.js';

channelTest(
  'waits go on while another process keeps the one lock that the kernel has for epolls in epolls',
  async () => {
    const holder = new Peer(compiled('holds-lock'), ['nesting']);
    const waiting: Peer[] = [];
    try {
      assert.equal(await holder.line(), 'locked');
      const program = nodePeer('waits');
      waiting.push(program);
      assert.deepEqual(JSON.parse(await program.line()), [true, 7, 8]);
      assert.equal(await program.ended, 0, program.errors);
    } finally {
      holder.kill(); // first: a wait for the lock ends with it
      await holder.ended;
      for (const program of waiting) program.kill();
      for (const program of waiting) await program.ended;
    }
  },
  notRoot,
);

channelTest(
  'waits that epolls may not watch any more are refused, and those before and after go on',
  async () => {
    const { refused, served, afterwards } = runProgram<FewWatchesReport>('few-watches');
    const { 'ENOSPC uv_poll_init': count = 0, ...others } = refused;
    assert.deepEqual(others, {});
    assert.ok(served > 0 && count > 0 && served + count === 400, `${served} and ${count}`);
    assert.equal(afterwards, 4);
  },
  notRoot,
);
