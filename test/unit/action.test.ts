// The GitHub Action: its file, and those of its steps that need no guest.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parse } from 'yaml';
import { mirrorsFor, readAptSources } from '../../lib/vm/apt-sources.js';
import { readAction, runAction } from '../support/action.js';
import { blocksIn, textOf } from '../support/documents.js';

const action = readAction();
const { inputs, runs } = action;

describe('action.yml', () => {
  it('is a composite action with a name and words for each input', () => {
    assert.equal(runs.using, 'composite');
    for (const text of [
      action.name,
      action.description,
      ...Object.values(inputs).map((one) => one.description),
    ]) {
      assert.ok(text.length > 10, text);
    }
  });

  it('uses each input, and none that there is not', () => {
    const used = new Set([...JSON.stringify(runs).matchAll(/inputs\.([\w-]+)/g)].map(([, name]) => name));
    assert.deepEqual([...used].sort(), Object.keys(inputs).sort());
  });

  for (const [index, { name = `step ${index}`, run, shell, uses }] of runs.steps.entries()) {
    it(`has a step that is complete: ${name}`, () => {
      if (run === undefined) return assert.match(uses ?? '', /^actions\/[\w-]+@v\d+$/);
      assert.equal(shell, 'bash');
      assert.equal(spawnSync('bash', ['-n'], { input: run, encoding: 'utf8' }).stderr, '');
      // What somebody else may have written, such as the name of a branch, would be code there.
      assert.doesNotMatch(run, /\$\{\{/);
    });
  }

  it('has its inputs in docs/vm.md, with their defaults', () => {
    const section = textOf('docs/vm.md')
      .split(/^## /m)
      .find((text) => text.startsWith('In GitHub'));
    const rows = [...(section ?? '').matchAll(/^\| `([\w-]+)` \| (?:`([^`|]*)`|([^`|]*)) \|/gm)];
    assert.deepEqual(
      rows.map(([, name, value, words]) => [name, value ?? words]),
      Object.entries(inputs).map(([name, { required, default: value }]) => [
        name,
        required ? 'required' : value === '' ? 'none' : value,
      ]),
    );
  });

  it('is used with inputs that there are in docs/vm.md', () => {
    const blocks = blocksIn(textOf('docs/vm.md'), 'docs/vm.md').filter(({ language }) => language === 'yaml');
    assert.ok(blocks.length > 0);
    for (const { code } of blocks) {
      const { jobs } = parse(code) as { jobs: Record<string, { steps: { uses?: string; with?: object }[] }> };
      const steps = Object.values(jobs).flatMap((job) => job.steps);
      const own = steps.filter(({ uses }) => uses?.includes('dmabuf@'));
      assert.equal(own.length, 1);
      for (const name of Object.keys(own[0]?.with ?? {})) assert.ok(name in inputs, name);
    }
  });
});

describe('the steps of the action', () => {
  // In the place of npx: says what it was called with.
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-action-test-'));
  after(() => rmSync(folder, { recursive: true }));
  writeFileSync(
    join(folder, 'npx'),
    '#!/bin/sh\nfor word; do printf "<%s>\\n" "$word"; done\nwc -c\nexit 7\n',
  );
  chmodSync(join(folder, 'npx'), 0o755);
  const env = { PATH: `${folder}${delimiter}${process.env.PATH}`, XDG_CACHE_HOME: '/cache' };
  const isDebian = /^ID=debian$/m.test(readFileSync('/etc/os-release', 'utf8'));
  const skip = isDebian ? false : 'the steps would install packages on what is not Debian';

  it('run the command with what was asked for, and pass on its status', { skip }, () => {
    const { status, stdout } = runAction(
      {
        ...{ kernel: 'stable,newest', modules: 'vgem', 'node-options': '--expose-gc --no-warnings' },
        ...{ options: '--append cma=64M', run: 'npm ci\nnpm test -- "a b"\n' },
      },
      { cwd: folder, env },
    );
    assert.equal(status, 7);
    assert.deepEqual(stdout.split('\n'), [
      ...['<--yes>', '<dmabuf>', '<vm>', '<--kernel>', '<stable,newest>', '<--modules>', '<vgem>'],
      ...['<--append>', '<cma=64M>', '<-->', '<env>', '<NODE_OPTIONS=--expose-gc --no-warnings>'],
      ...[
        '<bash>',
        '<--noprofile>',
        '<--norc>',
        '<-eo>',
        '<pipefail>',
        '<-c>',
        '<npm ci',
        'npm test -- "a b"',
        '>',
      ],
      ...['0', ''],
    ]);
  });

  it('run it on the newest kernel where nothing was asked for', { skip }, () => {
    const { stdout } = runAction({ run: 'true', cache: 'false' }, { cwd: folder, env });
    assert.match(stdout, /<vm>\n<--kernel>\n<newest>\n<-->\n<env>\n<bash>/);
  });

  it('cache what belongs to these kernels and modules, for a week', { skip }, () => {
    const { outputs } = runAction(
      { run: 'true', kernel: 'stable,6.12', modules: 'vgem' },
      { cwd: folder, env },
    );
    const { key = '', path, 'restore-keys': earlier } = outputs.cache ?? {};
    assert.match(key, /^dmabuf-vm-stable_6\.12-vgem-\d{4}-\d\d$/);
    assert.ok(key.startsWith(`${earlier}`) && earlier?.endsWith('-'));
    assert.deepEqual(
      path?.split('\n'),
      ['kernels', 'modules', 'busybox-static'].map((name) => `/cache/dmabuf/${name}`),
    );
  });

  const unshare = ['unshare', process.getuid?.() === 0 ? '-m' : '-rm'] as const;
  const mayMount = spawnSync(unshare[0], [unshare[1], 'mount', '--bind', '/etc', '/etc']).status === 0;

  it('let apt find Debian where the system is another', { skip: mayMount ? false : 'needs a mount' }, () => {
    const [system, script, output] = [
      join(folder, 'os-release'),
      join(folder, 'apt.sh'),
      join(folder, 'output'),
    ];
    writeFileSync(system, 'ID=ubuntu\n');
    writeFileSync(script, runs.steps.find(({ id }) => id === 'apt')?.run ?? '');
    writeFileSync(join(folder, 'sudo'), '#!/bin/sh\necho "$*"\n');
    chmodSync(join(folder, 'sudo'), 0o755);
    const { status, stdout, stderr } = spawnSync(
      unshare[0],
      [
        unshare[1],
        'sh',
        '-c',
        `mount --bind '${system}' /etc/os-release && exec bash -eo pipefail '${script}'`,
      ],
      { encoding: 'utf8', env: { ...env, RUNNER_TEMP: folder, GITHUB_OUTPUT: output } },
    );
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^apt-get install .*qemu-system-x86 busybox-static debian-archive-keyring$/m);
    const config = /^config=(.*)$/m.exec(readFileSync(output, 'utf8'))?.[1];
    const found = spawnSync('apt-config', ['shell', 'FOLDER', 'Dir::Etc/d'], {
      encoding: 'utf8',
      env: { ...process.env, APT_CONFIG: config },
    }).stdout;
    const sources = readAptSources(/'(.*)'/.exec(found)?.[1] ?? '');
    for (const suite of ['trixie-backports', 'trixie-security', 'trixie', 'bookworm-security']) {
      assert.equal(mirrorsFor(suite, sources).length, 1, suite);
    }
  });
});
