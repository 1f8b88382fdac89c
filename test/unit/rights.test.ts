import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { packageRoot } from '../support/programs.js';

// What root is told that has not all of root's rights, of this process, which has them.

const asRoot = process.geteuid?.() === 0 ? {} : { skip: 'only root can give up rights of root' };

interface Advice {
  hint: string;
  fix: string;
  bpf: string;
}

const ask = `
  import { examine, readFdInfo } from 'dmabuf/inspect';
  const advice = {};
  try { readFdInfo(${process.pid}, 0) } catch (error) { advice.hint = error.hint }
  const findings = await examine();
  const fixOf = (wanted) => findings.find(({ subject }) => subject === wanted)?.fix;
  console.log(JSON.stringify({ ...advice, fix: fixOf('processes'), bpf: fixOf('bpf') }));
`;

function run(prefix: readonly string[], ...args: string[]): { stdout: string; stderr: string } {
  const [command = '', ...rest] = [...prefix, process.execPath, ...args];
  return spawnSync(command, rest, { cwd: packageRoot, encoding: 'utf8' });
}

const adviceFor = (prefix: readonly string[]): Advice => {
  const { stdout, stderr } = run(prefix, '--input-type=module', '-e', ask);
  assert.notEqual(stdout, '', stderr);
  return JSON.parse(stdout) as Advice;
};

const cli = `${packageRoot}/dist/package/cli.js`;

for (const [who, prefix, cause] of [
  [
    'root without CAP_SYS_PTRACE',
    ['setpriv', '--bounding-set=-sys_ptrace'],
    /without CAP_SYS_PTRACE.*--cap-add SYS_PTRACE/,
  ],
  ['root of a user namespace', ['unshare', '--user', '--map-root-user'], /root only in its user namespace/],
] as const) {
  test(`${who} is not told to become root`, asRoot, () => {
    const { hint, fix } = adviceFor(prefix);
    for (const said of [hint, fix]) {
      assert.match(said, cause);
      assert.doesNotMatch(said, /[Rr]un as root|same user/);
    }
  });

  test(`${who} is not told so by the commands`, asRoot, () => {
    for (const command of [
      ['ps', '--source', 'procfs'],
      ['show', String(process.pid), '0'],
    ]) {
      const { stderr } = run(prefix, cli, ...command);
      assert.match(stderr, cause, command.join(' '));
      assert.doesNotMatch(stderr, /[Rr]un as root|same user/);
    }
  });
}

test('root without CAP_BPF is told so', asRoot, () => {
  const { bpf } = adviceFor(['setpriv', '--bounding-set=-bpf,-perfmon,-sys_admin']);
  if (bpf !== undefined && /CAP_/.test(bpf)) assert.match(bpf, /without CAP_BPF and CAP_PERFMON.*--cap-add/);
});

test('another user is told who may', asRoot, () => {
  const { hint } = adviceFor(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']);
  assert.match(hint, /Only the same user or root may read this process/);
});
