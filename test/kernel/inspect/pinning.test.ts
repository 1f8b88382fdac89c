// Pinned iterators among users who trust each other in nothing: placing and removing them.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pinSync, unpinSync } from 'dmabuf/inspect';
import { Folder } from '../../support/channels.js';
import { compiled } from '../../support/compiled.js';
import { leavesNothing } from '../../support/descriptors.js';
import { throwsCode } from '../../support/expect.js';
import { hasIterator } from '../../support/inspect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { Peer } from '../../support/peers.js';
import { asStranger, BpfMount, dmabuf, pinMaps, stranger } from '../../support/pins.js';

const noIterator = hasIterator ? false : 'this kernel has no iterator over its dma-bufs';

/** Asserts that pinning there is refused with this code, for the sake of `path`, and leaves nothing. */
function refusesToPin(folder: string, code: string, path: string): void {
  const error = leavesNothing(() => throwsCode(() => pinSync({ folder, holders: true }), code));
  assert.equal(error.path, path);
}

// ---- placing

kernelTest('a folder that another user has made is not pinned into', () => {
  using bpf = new BpfMount();
  asStranger('mkdir "$1"', bpf.file());
  refusesToPin(bpf.file(), 'EPERM', bpf.file());
  assert.deepEqual(readdirSync(bpf.file()), []);
});

kernelTest('the command says whose folder it is not, and what to do', () => {
  using bpf = new BpfMount();
  asStranger('mkdir "$1"', bpf.file());
  const { status, stdout, stderr } = dmabuf(['pin', '--folder', bpf.file()]);
  assert.deepEqual([status, stdout], [2, '']);
  assert.match(stderr, /^dmabuf pin: EPERM: '.+\/dmabuf' cannot be trusted: .+ Let root remove it [^\n]+\n$/);
});

kernelTest('a folder that others may write is not pinned into, not even a sticky one', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file());
  for (const mode of [0o775, 0o757, 0o1777]) {
    chmodSync(bpf.file(), mode);
    refusesToPin(bpf.file(), 'EPERM', bpf.file());
  }
  refusesToPin(bpf.path, 'EPERM', bpf.path);
});

kernelTest('a folder that is a symbolic link is not followed', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file('real'));
  asStranger('ln -s real "$1"', bpf.file());
  refusesToPin(bpf.file(), 'ENOTDIR', bpf.file());
  assert.deepEqual(readdirSync(bpf.file('real')), []);
});

kernelTest('a folder below one that another user owns is not reached', () => {
  using bpf = new BpfMount();
  asStranger('mkdir "$1"', bpf.file('theirs'));
  mkdirSync(bpf.file('theirs/dmabuf'));
  refusesToPin(bpf.file('theirs/dmabuf'), 'EPERM', bpf.file('theirs'));
  refusesToPin(bpf.file('theirs/new'), 'EPERM', bpf.file('theirs'));
});

kernelTest('a folder below a symbolic link is not reached', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file('real'));
  symlinkSync('real', bpf.file('link'));
  refusesToPin(bpf.file('link/dmabuf'), 'ENOTDIR', bpf.file('link'));
});

kernelTest('a mount in the folder of another user is not reached', () => {
  using folder = new Folder();
  chownSync(folder.path, stranger.uid, stranger.gid);
  mkdirSync(folder.file('bpf'));
  execFileSync('mount', ['-t', 'bpf', '-o', 'mode=755', 'bpf', folder.file('bpf')]);
  try {
    refusesToPin(folder.file('bpf/dmabuf'), 'EPERM', folder.path);
  } finally {
    execFileSync('umount', [folder.file('bpf')]);
  }
});

kernelTest('through the /proc of a process, nothing is reached', () => {
  using bpf = new BpfMount();
  const folder = join('/proc/self/root', bpf.file());
  refusesToPin(folder, 'ENOTDIR', '/proc/self');
  refusesToPin(folder.replace('self', String(process.pid)), 'ENOTDIR', `/proc/${process.pid}/root`);
});

kernelTest('what else is pinned under the name stays', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file());
  pinMaps(bpf.file('dmabuf/descriptors'));
  refusesToPin(bpf.file(), 'EEXIST', bpf.file('dmabuf/descriptors'));
  symlinkSync('/etc/passwd', bpf.file('dmabuf/buffers'));
  refusesToPin(bpf.file(), 'EEXIST', bpf.file('dmabuf/buffers'));
  assert.deepEqual(readdirSync(bpf.file()).sort(), ['buffers', 'descriptors']);
  assert.equal(readlinkSync(bpf.file('dmabuf/buffers')), '/etc/passwd');
});

kernelTest(
  'no file outside changes its mode or owner while another user races for the folder',
  async () => {
    using bpf = new BpfMount();
    using folder = new Folder();
    chmodSync(folder.path, 0o755);
    const secret = folder.file('buffers');
    writeFileSync(secret, 'secret\n', { mode: 0o600 });
    const before = statSync(secret);
    await using racer = new Peer(compiled('bpf-pins'), ['race', bpf.file(), secret]);
    await racer.line();
    const codes = new Set<string>();
    let pinned = 0;
    for (let round = 0; round < 300; round++) {
      try {
        pinSync({ folder: bpf.file(), mode: 0o444, gid: stranger.gid, holders: true });
        pinned++;
        for (const name of readdirSync(bpf.file())) assert.equal(statSync(bpf.file(`dmabuf/${name}`)).uid, 0);
        unpinSync(bpf.file());
      } catch (error) {
        codes.add((error as { code: string }).code);
      }
    }
    const { mode, uid, gid, ctimeMs } = statSync(secret);
    assert.deepEqual([mode, uid, gid, ctimeMs], [before.mode, before.uid, before.gid, before.ctimeMs]);
    for (const code of codes) assert.match(code, /^(EPERM|ENOTDIR|EEXIST|ENOENT)$/);
    // Both have had the folder.
    assert.ok(pinned > 0 && codes.size > 0, `${pinned} times pinned, refused with ${[...codes]}`);
  },
  noIterator,
);

kernelTest(
  'the folder lets everybody through, whatever the umask, and the files are the owner’s to write alone',
  () => {
    using bpf = new BpfMount();
    const umask = process.umask(0o077);
    try {
      pinSync({ folder: bpf.file(), mode: 0o644 });
    } finally {
      process.umask(umask);
    }
    assert.equal(statSync(bpf.file()).mode & 0o7777, 0o755);
    assert.equal(statSync(bpf.file('dmabuf/buffers')).mode & 0o7777, 0o644);
    unpinSync(bpf.file());
  },
  noIterator,
);

kernelTest(
  'pinning once more replaces the files, and without holders takes those of holders away',
  () => {
    using bpf = new BpfMount();
    pinSync({ folder: bpf.file(), holders: true });
    const { ino } = statSync(bpf.file('dmabuf/buffers'));
    assert.deepEqual(pinSync({ folder: bpf.file(), mode: 0o400 }), [bpf.file('dmabuf/buffers')]);
    assert.deepEqual(readdirSync(bpf.file()), ['buffers']);
    assert.notEqual(statSync(bpf.file('dmabuf/buffers')).ino, ino);
    unpinSync(bpf.file());
  },
  noIterator,
);

kernelTest(
  'a folder given relative to the working folder is the same folder',
  () => {
    using bpf = new BpfMount();
    const before = process.cwd();
    process.chdir(bpf.path);
    try {
      assert.deepEqual(pinSync({ folder: './dmabuf' }), [bpf.file('dmabuf/buffers')]);
      unpinSync('dmabuf/');
    } finally {
      process.chdir(before);
    }
    assert.deepEqual(readdirSync(bpf.path), []);
  },
  noIterator,
);

/** Runs a module's text as the stranger, with CAP_BPF and CAP_PERFMON; its error output. */
function withBpfRights(text: string): string {
  const capabilities = '+bpf,+perfmon';
  const args = ['--reuid', '1000', '--regid', '1000', '--clear-groups', '--inh-caps', capabilities];
  const script = `import { pinSync, unpinSync } from 'dmabuf/inspect'; ${text}`;
  const node = [process.execPath, '--input-type=module', '-e', script];
  return execFileSync('setpriv', [...args, '--ambient-caps', capabilities, ...node], { encoding: 'utf8' });
}

kernelTest(
  'a user with the rights pins in a folder of its own, replaces and removes it',
  () => {
    using bpf = new BpfMount();
    const folder = JSON.stringify(bpf.file());
    const owner = withBpfRights(`import { statSync } from 'node:fs'; pinSync({ folder: ${folder} });
      pinSync({ folder: ${folder}, mode: 0o400 }); console.log(statSync(${folder} + '/buffers').uid);
      unpinSync(${folder});`);
    assert.equal(owner, '1000\n');
    assert.deepEqual(readdirSync(bpf.path), []);
  },
  noIterator,
);

kernelTest(
  'a group that the user may not give leaves nothing new, and what was there',
  () => {
    using bpf = new BpfMount();
    const attempt = `try { pinSync({ folder: ${JSON.stringify(bpf.file())}, gid: 5 }) }
      catch (error) { console.log(error.code, error.syscall) }`;
    assert.equal(withBpfRights(attempt), 'EPERM fchown\n');
    assert.deepEqual(readdirSync(bpf.path), []);
    withBpfRights(`pinSync({ folder: ${JSON.stringify(bpf.file())}, holders: true })`);
    const { ino } = statSync(bpf.file('dmabuf/buffers'));
    assert.equal(withBpfRights(attempt), 'EPERM fchown\n');
    assert.deepEqual(readdirSync(bpf.file()).sort(), ['buffers', 'descriptors', 'mappings']);
    assert.equal(statSync(bpf.file('dmabuf/buffers')).ino, ino);
    rmSync(bpf.file(), { recursive: true });
  },
  noIterator,
);

// ---- removing

/** Asserts that removing is refused with this code, for the sake of `path`. */
function refusesToUnpin(folder: string, code: string, path: string): string {
  const error = leavesNothing(() => throwsCode(() => unpinSync(folder), code));
  assert.equal(error.path, path);
  return error.message;
}

kernelTest('a folder of ordinary files is not touched', () => {
  using folder = new Folder();
  mkdirSync(folder.file('buffers'));
  writeFileSync(folder.file('descriptors'), 'mine');
  refusesToUnpin(folder.path, 'EINVAL', folder.path);
  refusesToUnpin(folder.file('buffers'), 'EINVAL', folder.file('buffers'));
  assert.deepEqual(readdirSync(folder.path).sort(), ['buffers', 'descriptors']);
  refusesToUnpin('/', 'EINVAL', '/');
});

kernelTest('the command does not touch a folder of ordinary files either', () => {
  using folder = new Folder();
  writeFileSync(folder.file('buffers'), 'mine');
  const { status, stderr } = dmabuf(['pin', '--remove', '--folder', folder.path]);
  assert.equal(status, 2);
  assert.match(stderr, /^dmabuf pin: EINVAL: '.+' is not in a BPF file system/);
  assert.ok(existsSync(folder.file('buffers')));
});

kernelTest('a symbolic link is neither followed nor removed', () => {
  using bpf = new BpfMount();
  using folder = new Folder();
  writeFileSync(folder.file('buffers'), 'mine');
  mkdirSync(bpf.file('real'));
  symlinkSync('real', bpf.file());
  refusesToUnpin(bpf.file(), 'ENOTDIR', bpf.file());
  rmSync(bpf.file());
  symlinkSync(folder.path, bpf.file());
  refusesToUnpin(bpf.file(), 'ENOTDIR', bpf.file());
  assert.deepEqual(readdirSync(folder.path), ['buffers']);
});

kernelTest('a folder of another user is not touched', () => {
  using bpf = new BpfMount();
  asStranger('mkdir "$1"', bpf.file());
  pinMaps(bpf.file('dmabuf/buffers'));
  refusesToUnpin(bpf.file(), 'EPERM', bpf.file());
  assert.deepEqual(readdirSync(bpf.file()), ['buffers']);
});

kernelTest('what others have pinned stays, and is named', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file());
  mkdirSync(bpf.file('dmabuf/mappings'));
  pinMaps(bpf.file('dmabuf/buffers'), bpf.file('dmabuf/theirs'));
  const message = refusesToUnpin(bpf.file(), 'ENOTEMPTY', bpf.file());
  for (const name of ['buffers', 'mappings', 'theirs']) assert.ok(message.includes(name), message);
  assert.deepEqual(readdirSync(bpf.file()).sort(), ['buffers', 'mappings', 'theirs']);
});

kernelTest(
  'beside what others have pinned, the own goes',
  () => {
    using bpf = new BpfMount();
    pinSync({ folder: bpf.file(), holders: true });
    rmSync(bpf.file('dmabuf/descriptors'));
    const theirs = Array.from({ length: 7 }, (_, index) => `theirs${index}`);
    pinMaps(...['descriptors', ...theirs].map((name) => bpf.file(`dmabuf/${name}`)));
    const message = refusesToUnpin(bpf.file(), 'ENOTEMPTY', bpf.file());
    assert.match(message, /: (\w+, ){4}\w+ and 3 more\./);
    assert.equal(existsSync(bpf.file('dmabuf/buffers')), false);
    assert.equal(existsSync(bpf.file('dmabuf/mappings')), false);
    assert.ok(existsSync(bpf.file('dmabuf/descriptors')));
  },
  noIterator,
);

kernelTest(
  'what a process that was killed has not finished goes too',
  () => {
    using bpf = new BpfMount();
    pinSync({ folder: bpf.file(), holders: true });
    renameSync(bpf.file('dmabuf/buffers'), bpf.file('dmabuf/buffers-123'));
    linkSync(bpf.file('dmabuf/mappings'), bpf.file('dmabuf/mappings-45'));
    unpinSync(bpf.file());
    assert.deepEqual(readdirSync(bpf.path), []);
  },
  noIterator,
);

kernelTest(
  'in the file system’s own folder the files go, and it stays',
  () => {
    using bpf = new BpfMount('700');
    pinSync({ folder: bpf.path });
    unpinSync(bpf.path);
    assert.deepEqual(readdirSync(bpf.path), []);
  },
  noIterator,
);

kernelTest('without the rights nothing is removed', () => {
  using bpf = new BpfMount();
  mkdirSync(bpf.file());
  const { status, stderr } = dmabuf(['pin', '--remove', '--folder', bpf.file()], stranger);
  assert.equal(status, 2);
  assert.match(stderr, /^dmabuf pin: (EACCES|EPERM): [^\n]+\n$/);
  assert.ok(existsSync(bpf.file()));
});
