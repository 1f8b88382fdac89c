// npm run prove:runtimes: the packed package under every runtime that the README's table of platforms names for x64 with
// glibc, on a real kernel: what foreign/program.mjs checks, and the command. Then, without a guest, that a runtime which forbids
// addons is told so. npm run prove:runtimes -- Bun Deno: some of them.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { nodeBinary, npmPackage } from './cached.mjs';
import { installProgram, report } from './foreign/proof.mjs';
import { record } from './platforms.mjs';
import { prebuildAll } from './prebuild.mjs';
import { root, setup } from './setup.mjs';

const kernel = 'newest';
const say = (text) => process.stderr.write(`prove: ${text}\n`);

/**
 * The runtimes that the npm registry has: what they call themselves in the program, how they start one, and what the advice
 * says after flags that forbid the addon.
 */
async function runtimes() {
  const packaged = async (what, path) => join(await npmPackage(what, say), 'node_modules', path);
  const all = [];
  for (const major of [20, 22, 24, 26]) {
    const permission = major === 20 ? '--experimental-permission' : '--permission';
    all.push({
      runtime: `Node ${major}.`,
      command: [await nodeBinary(major, say)],
      forbidding: {
        '--no-addons': 'without --no-addons',
        [`--no-warnings ${permission} --allow-fs-read=*`]: 'with --allow-addons',
      },
    });
  }
  const bun = await packaged('@oven/bun-linux-x64@1.4.5', '@oven/bun-linux-x64/bin/bun');
  const deno = await packaged('@deno/linux-x64-glibc@2.9.6', '@deno/linux-x64-glibc/deno');
  return [
    ...all,
    { runtime: 'Bun 1.4.5', command: [bun], forbidding: {} },
    {
      runtime: 'Deno 2.9.6',
      command: [deno, 'run', '--allow-all'],
      forbidding: { '--no-prompt': 'with --allow-read', '--no-prompt --allow-read': 'with --allow-ffi' },
    },
  ];
}

const quoted = (words) => words.map((word) => `'${word}'`).join(' ');

/** Real buffers, and the command, in one guest. */
async function inGuest(all, installed) {
  const { runInVm } = await import('dmabuf/vm');
  const cli = 'node_modules/dmabuf/dist/package/cli.js';
  const steps = all.map(
    ({ runtime, command }) => `
      DMABUF_SOURCES='system udmabuf' DMABUF_BPF=1 ${quoted(command)} program.mjs || echo 'failed: ${runtime}'
      ${quoted(command)} ${cli} heaps --json | grep -q /dev/dma_heap/system || echo 'failed: dmabuf heaps, ${runtime}'
      ${quoted(command)} ${cli} ls --json | grep -q '"buffers"' || echo 'failed: dmabuf ls, ${runtime}'`,
  );
  say(`${all.length} runtimes on the kernel ${kernel}: a minute or two`);
  const stdout = new PassThrough();
  const output = textOf(stdout);
  const { exitCode } = await runInVm({
    command: ['sh', '-c', `cd '${installed}' || exit 1\n${steps.join('\n')}`],
    kernel,
    timeout: 600_000,
    stdout,
    stderr: stdout,
  });
  stdout.end();
  const text = await output;
  if (exitCode !== 0 || /^failed: /m.test(text)) throw new Error(text);
  const sources = ['system', 'udmabuf'];
  return report(
    text,
    all.map(({ runtime }) => ({ runtime, arch: 'x64', libc: 'glibc', sources })),
  );
}

/** Never an abort: what a runtime forbids is an error that names the flag. */
function refusals(all, installed) {
  const use = `import { DmaBuf } from 'dmabuf';
    try { console.log(DmaBuf.pageSize); } catch ({ code, message }) { console.log(code, message); }`;
  writeFileSync(join(installed, 'refused.mjs'), use);
  for (const { runtime, command, forbidding } of all) {
    for (const [flags, advice] of Object.entries(forbidding)) {
      const args = [...command.slice(1).filter((word) => word !== '--allow-all'), ...flags.split(' ')];
      const options = { cwd: installed, encoding: 'utf8' };
      const { status, stdout, stderr } = spawnSync(command[0], [...args, 'refused.mjs'], options);
      const named = stdout.startsWith('ERR_DMABUF_UNSUPPORTED_PLATFORM ') && stdout.includes(advice);
      if (status !== 0 || !named) throw new Error(`${runtime} ${flags}: ${status}\n${stdout}${stderr}`);
      console.log(`${runtime} ${flags}: the error says ${advice}`);
    }
  }
}

try {
  setup();
  await prebuildAll();
  const installed = installProgram(join(root, 'build/runtimes'));
  const chosen = process.argv.slice(2);
  const all = (await runtimes()).filter(
    ({ runtime }) => chosen.length === 0 || chosen.some((name) => runtime.includes(name)),
  );
  if (all.length === 0) throw new Error(`there is no ${chosen.join(', ')}`);
  refusals(all, installed);
  const shown = await inGuest(all, installed);
  if (chosen.length === 0) record('runtimes', shown);
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}
