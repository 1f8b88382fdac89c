// The description of the kernel's types, by which iterators are made.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { Folder } from '../../support/channels.js';
import { hasIterator } from '../../support/inspect.js';
import { kernelTest } from '../../support/kernel-test.js';
import { programFile } from '../../support/peers.js';
import type { InspectReport, ReportedSnapshot } from '../../support/programs/inspects.js';
import { packageRoot } from '../../support/programs.js';

const noIterator = hasIterator ? false : 'this kernel has no iterator over its dma-bufs';
/** The kernel's own BTF with a type of a kind that nobody knows behind the others, and how long it is, unless it says nothing. */
function withUnknownKind(saysHowLong: boolean): Buffer {
  const btf = readFileSync('/sys/kernel/btf/vmlinux');
  const [start = 0, typeOffset = 0, typeLength = 0, textOffset = 0, textLength = 0] = [4, 8, 12, 16, 20].map(
    (at) => btf.readUInt32LE(at),
  );
  const types = btf.subarray(start + typeOffset, start + typeOffset + typeLength);
  const text = btf.subarray(start + textOffset, start + textOffset + textLength);
  const kind = 100;
  const unknown = Buffer.alloc(12 + 4 + 3 * 8);
  unknown.writeUInt32LE((kind << 24) | 3, 4);
  const layout = Buffer.alloc(saysHowLong ? (kind + 1) * 4 : 0);
  if (saysHowLong) layout.set([4, 8], kind * 4);
  const header = Buffer.alloc(32);
  btf.copy(header, 0, 0, 4);
  const length = types.length + unknown.length;
  [32, 0, length, length, text.length, length + text.length, layout.length].forEach((value, index) => {
    header.writeUInt32LE(value, 4 + 4 * index);
  });
  return Buffer.concat([header, types, unknown, text, layout]);
}

kernelTest(
  'a kind of type that nobody knows is passed over where the kernel says how long it is',
  () => {
    using folder = new Folder();
    for (const saysHowLong of [true, false]) {
      writeFileSync(folder.file('btf'), withUnknownKind(saysHowLong));
      const shell = `mount --bind ${folder.file('btf')} /sys/kernel/btf/vmlinux; exec "$@"`;
      const args = ['--mount', 'sh', '-ec', shell, 'sh', process.execPath, programFile('inspects')];
      const { stdout, stderr } = spawnSync('unshare', args, { cwd: packageRoot, encoding: 'utf8' });
      assert.equal(stderr, '');
      const { source, attempts } = (JSON.parse(stdout) as InspectReport).snapshots.auto as ReportedSnapshot;
      assert.equal(source.includes('bpf'), saysHowLong, JSON.stringify(attempts));
    }
  },
  noIterator,
);
