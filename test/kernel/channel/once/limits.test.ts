import assert from 'node:assert/strict';
import { channelTest } from '../../../support/channel-test.js';
import { withWmemMax } from '../../../support/channels.js';
import { hasKernel } from '../../../support/kernel-test.js';
import { notRoot } from '../../../support/needs.js';
import type { DescriptorLimitsReport } from '../../../support/programs/channel-limits.js';
import type { UnprivilegedChannelReport } from '../../../support/programs/unprivileged-channel.js';
import { runProgramAfter } from '../../../support/programs.js';

// Channels of a process that has no descriptor left, and of an ordinary user.

const limited: DescriptorLimitsReport = hasKernel
  ? runProgramAfter('ulimit -n 64', 'channel-limits')
  : (undefined as never);

channelTest('a handle that has to wait needs a descriptor: EMFILE, and nothing leaks', () => {
  const { queuedWithHandle, leftAfterQueued } = limited;
  assert.deepEqual([queuedWithHandle.name, queuedWithHandle.code], ['DmaBufError', 'EMFILE']);
  assert.match(queuedWithHandle.message, /ulimit -n/);
  assert.equal(leftAfterQueued, 2);
});

channelTest('waiting to send needs no descriptor', () => assert.equal(limited.queued, 'waited'));

channelTest('sending at once needs no descriptor', () => assert.equal(limited.sentWithNone, 'with none'));

channelTest('where there are descriptors again, a send that waits works', () =>
  assert.equal(limited.sentLater, 'later'),
);

for (const left of [0, 1, 2]) {
  channelTest(`three handles and ${left} descriptors left: the message is dropped, and nothing leaks`, () => {
    const error = limited.truncated[left];
    assert.deepEqual([error?.name, error?.code], ['DmaBufError', 'ERR_DMABUF_MESSAGE_TRUNCATED']);
    assert.match(error?.message ?? '', new RegExp(`only ${left} .*ulimit -n`));
    assert.equal(limited.leftAfterTruncated[left], left);
  });
}

channelTest('when there are descriptors again, the next message is fine', () => {
  assert.equal(limited.nextAfterTruncated, 'whole 3');
});

channelTest('messages that need no descriptor come and go where there is none, however many', () => {
  assert.equal(limited.talk, 'nothing');
});

channelTest('waiting to receive needs no descriptor', () => assert.equal(limited.waitedToReceive, 'waited'));

channelTest(
  "the last descriptor left suffices for this process's first dma-buf, or the message is dropped as truncated",
  () => {
    const { firstArrival } = limited;
    const outcome = typeof firstArrival === 'string' ? firstArrival : firstArrival.code;
    assert.match(String(outcome), /^(DmaBuf|ERR_DMABUF_MESSAGE_TRUNCATED)$/);
    assert.equal(limited.leftAfterFirstArrival, 1);
  },
);

for (const [call, error] of Object.entries(limited.others)) {
  channelTest(`${call} descriptor left is EMFILE`, () => {
    assert.deepEqual([error.name, error.code, error.errno], ['DmaBufError', 'EMFILE', -24]);
  });
}

channelTest('calls that found too few descriptors leave none open', () =>
  assert.equal(limited.leftAfterOthers, 1),
);

channelTest('a listen() that failed leaves no file', () => assert.equal(limited.leftFile, false));

for (const call of ['triesToReceive', 'triesToAccept'] as const) {
  channelTest(`EMFILE lets the event loop turn, so that a loop which tries again ends: ${call}`, () => {
    assert.ok(Number.isFinite(limited[call] ?? Number.POSITIVE_INFINITY), 'tried 10 000 times in vain');
  });
}

// ---- an ordinary user

const unprivileged: UnprivilegedChannelReport = notRoot
  ? (undefined as never)
  : withWmemMax(300_000, () =>
      runProgramAfter(
        'ulimit -n 64; exec setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"',
        'unprivileged-channel',
      ),
    );

for (const call of ['pair', 'adopt', 'connect', 'listen'] as const) {
  channelTest(
    `${call}: a maxMessageSize above net.core.wmem_max is EPERM for an ordinary user, with the cure`,
    () => {
      const error = unprivileged.tooLarge[call];
      assert.deepEqual([error?.name, error?.code, error?.syscall], ['DmaBufError', 'EPERM', 'setsockopt']);
      assert.match(error?.message ?? '', new RegExp(`sysctl -w net.core.wmem_max=${unprivileged.cure}\\.$`));
    },
    notRoot,
  );
}

channelTest(
  'an ordinary user may send what net.core.wmem_max allows',
  () => assert.equal(unprivileged.largest, 600_000 - 32),
  notRoot,
);

channelTest(
  'a socket that could not be adopted stays open, with its flags',
  () => assert.deepEqual(unprivileged.flagsAfterRefusal, unprivileged.flagsBeforeRefusal),
  notRoot,
);

channelTest('EPERM leaves no socket behind', () => assert.deepEqual(unprivileged.left, []), notRoot);

channelTest(
  'more descriptors on their way than the limit allows: ETOOMANYREFS, with the cure',
  () => {
    const { tooMany } = unprivileged;
    assert.deepEqual(
      [tooMany?.name, tooMany?.code, tooMany?.syscall],
      ['DmaBufError', 'ETOOMANYREFS', 'sendmsg'],
    );
    assert.match(tooMany?.message ?? '', /ulimit -n/);
  },
  notRoot,
);

channelTest(
  'when they were received, sending works again',
  () => assert.equal(unprivileged.sentAfterTooMany, true),
  notRoot,
);
