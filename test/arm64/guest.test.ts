// What an arm64 guest is for a command: npm run prove:arm64 runs this, since it needs packages for arm64.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, describe, it, test } from 'node:test';
import { testInVm } from '../../lib/vm/index.js';
import { packageRoot } from '../support/programs.js';
import { type Captured, capture } from '../vm/capture.js';

const USE = `
import { readFileSync, writeFileSync } from 'node:fs';
import { allocate } from 'dmabuf';
const fact = (name, value) => console.error(name + '=' + value);
for (const source of ['system', 'udmabuf']) {
  const buffer = await allocate(8192, { from: [source] });
  buffer.write(new Uint8Array([7]));
  const copy = new Uint8Array(1);
  buffer.read(copy);
  fact(source, copy[0] + ' ' + buffer.info().size);
  buffer.close();
}
fact('arch', process.arch);
fact('major', process.versions.node.split('.')[0]);
fact('addon', readFileSync('/proc/self/maps', 'latin1').match(/prebuilds.*node$/m)?.[0]);
fact('input', readFileSync(0, 'utf8'));
writeFileSync(process.env.DMABUF_VM_OUTPUT + '/report', 'done');
process.exit(42);
`;

const SCRIPT = `
echo "machine=$(uname -m)"
echo "folder=$(pwd)"
echo "words=$WORDS"
echo "awk=$(echo a b | awk '{ print $2 }')"
for program in "$1" node; do $program -p '"own=" + process.arch'; done
grep . here && echo changed >here
exec node "$2"
`;

describe('a command in an arm64 guest', () => {
  const folder = mkdtempSync(join(tmpdir(), "dmabuf test's-"));
  const output = join(folder, 'output');
  let result: Captured;
  let facts: Map<string, string>;

  before(async () => {
    const program = join(packageRoot, 'build', `arm64-use-${process.pid}.mjs`);
    writeFileSync(program, USE);
    writeFileSync(join(folder, 'here'), 'kept=unchanged\n');
    try {
      result = await capture({
        arch: 'arm64',
        command: ['sh', '-c', SCRIPT, 'sh', process.execPath, program],
        modules: ['system_heap', 'vgem'],
        cwd: folder,
        env: { WORDS: "two 'words'" },
        stdin: Readable.from(['typed']),
        output,
      });
    } finally {
      rmSync(program);
    }
    const lines = `${result.stdout}${result.stderr}`.trim().split('\n');
    facts = new Map(lines.map((line) => line.split(/=(.*)/, 2) as [string, string]));
  });

  after(() => rmSync(folder, { recursive: true }));

  it('is on a kernel for arm64, and its status is passed on', () => {
    assert.equal(result.exitCode, 42, result.stderr);
    assert.match(result.release, /-arm64$/);
    assert.deepEqual(result.splats, []);
    assert.equal(facts.get('machine'), 'aarch64');
  });

  it('has Node.js of this major version, at the path of this one too, and other programs', () => {
    assert.equal(facts.get('own'), 'arm64');
    assert.equal(facts.get('arch'), 'arm64');
    assert.equal(facts.get('major'), process.versions.node.split('.')[0]);
    assert.equal(facts.get('awk'), 'b');
  });

  it('allocates from the heap and from udmabuf, with the binary of the package', () => {
    assert.equal(facts.get('system'), '7 8192');
    assert.equal(facts.get('udmabuf'), '7 8192');
    assert.equal(facts.get('addon'), 'prebuilds/linux-arm64/dmabuf.glibc.node');
  });

  it('has the folder, the files, the variables and the input, and its output folder comes back', () => {
    assert.equal(facts.get('folder'), folder);
    assert.equal(facts.get('words'), "two 'words'");
    assert.equal(facts.get('input'), 'typed');
    assert.equal(facts.get('kept'), 'unchanged');
    assert.equal(readFileSync(join(folder, 'here'), 'utf8'), 'kept=unchanged\n');
    assert.equal(readFileSync(join(output, 'report'), 'utf8'), 'done');
    assert.ok(existsSync(join(output, 'kernel.log')));
  });
});

test('testInVm() runs its files there', async (t) => {
  const file = join(mkdtempSync(join(tmpdir(), 'dmabuf-test-')), 'here.test.mjs');
  writeFileSync(
    file,
    `import assert from 'node:assert/strict';
    import { test } from 'node:test';
    test('of another processor', () => assert.equal(process.arch, 'arm64'));`,
  );
  await testInVm(t, { arch: 'arm64', files: [file] });
  rmSync(join(file, '..'), { recursive: true });
});

test('instructions are counted there as time', async () => {
  const { exitCode, stdout } = await capture({
    arch: 'arm64',
    icount: true,
    command: ['sh', '-c', 'nproc; cat /proc/uptime'],
    timeout: 900,
  });
  assert.equal(exitCode, 0);
  assert.match(stdout.toString(), /^1\n/);
});
