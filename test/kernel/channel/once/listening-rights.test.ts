import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { DmaBufChannel } from 'dmabuf';
import { channelTest } from '../../../support/channel-test.js';
import { Folder } from '../../../support/channels.js';
import { throwsCode } from '../../../support/expect.js';
import { notRoot } from '../../../support/needs.js';
import type { UnprivilegedServerReport } from '../../../support/programs/unprivileged-server.js';
import { runProgram } from '../../../support/programs.js';
import { ForeignSocket } from '../../../support/sockets.js';

// ---- an ordinary user

const folderOfRoot = notRoot ? (undefined as never) : new Folder();

function runUnprivileged(): UnprivilegedServerReport {
  chmodSync(folderOfRoot.path, 0o755);
  using _live = ForeignSocket.serve(folderOfRoot.file('live'));
  ForeignSocket.leaveStale(folderOfRoot.file('stale'));
  ForeignSocket.leaveStale(folderOfRoot.file('open-stale'));
  for (const name of ['live', 'stale']) chmodSync(folderOfRoot.file(name), 0o600);
  chmodSync(folderOfRoot.file('open-stale'), 0o666);
  const env = { ...process.env, DMABUF_TEST_FOLDER: folderOfRoot.path };
  try {
    return runProgram('unprivileged-server', { uid: 65534, gid: 65534, env });
  } finally {
    folderOfRoot[Symbol.dispose]();
  }
}

const user: UnprivilegedServerReport = notRoot ? (undefined as never) : runUnprivileged();

channelTest(
  'connecting to a socket that may not be written is EACCES, with the path and the cure',
  () => {
    const { name, code, path, message, syscall } = user.connectLive;
    assert.deepEqual(
      [name, code, syscall, path],
      ['DmaBufError', 'EACCES', 'connect', join(folderOfRoot.path, 'live')],
    );
    assert.match(message, /option mode/);
  },
  notRoot,
);

channelTest(
  'listening in a folder that may not be written is EACCES, with the path and the reason',
  () => {
    const { name, code, path, message, syscall } = user.listenInFolder;
    assert.deepEqual(
      [name, code, syscall, path],
      ['DmaBufError', 'EACCES', 'bind', join(folderOfRoot.path, 'new')],
    );
    assert.match(message, /folder may not be written/);
  },
  notRoot,
);

for (const what of ['listenAtLive', 'listenAtStale'] as const) {
  channelTest(
    `a socket of another user is EADDRINUSE, be it dead or not: ${what}`,
    () => {
      const { name, code, message } = user[what];
      assert.deepEqual([name, code], ['DmaBufError', 'EADDRINUSE']);
      assert.match(message, /Another user's socket/);
    },
    notRoot,
  );
}

channelTest(
  "a dead server's file that may not be removed is an error of this package, with the path",
  () => {
    const { name, code, path } = user.listenAtOpenStale;
    assert.deepEqual([name, path], ['DmaBufError', join(folderOfRoot.path, 'open-stale')]);
    assert.match(code ?? '', /^(EACCES|EPERM|EADDRINUSE)$/);
  },
  notRoot,
);

channelTest(
  "a user's own dead server is replaced whatever its mode was",
  () => assert.deepEqual(user.ownStale, { '0': 'listens', '400': 'listens', '600': 'listens' }),
  notRoot,
);

channelTest(
  'a daemon that was root once gives its socket the mode that it was asked for',
  () => assert.equal(runProgram<number>('drops-root'), 0o660),
  notRoot,
);

channelTest(
  'a file that something is mounted on is not taken for a path that waits',
  () => {
    using folder = new Folder();
    for (const name of ['one', 'other']) ForeignSocket.leaveStale(folder.file(name));
    execFileSync('mount', ['--bind', folder.file('one'), folder.file('other')]);
    try {
      const { hint, syscall } = throwsCode(() => DmaBufChannel.listen(folder.file('other')), 'EBUSY');
      assert.deepEqual([syscall, hint], ['unlink', 'Something is mounted on the file: unmount it.']);
    } finally {
      execFileSync('umount', [folder.file('other')]);
    }
  },
  notRoot,
);
