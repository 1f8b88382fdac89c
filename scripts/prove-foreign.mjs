// npm run prove:foreign: the binaries of the package that this machine cannot run by itself, each where it belongs:
// arm64 under QEMU, musl under musl's loader. What is proven is what foreign/program.mjs checks.

import { spawn, spawnSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { checkBinaries } from './binaries.mjs';
import { nodeBinary } from './cached.mjs';
import { muslBun, muslLibraries, muslLoader, muslNode } from './foreign/musl.mjs';
import { installProgram, report } from './foreign/proof.mjs';
import { record } from './platforms.mjs';
import { prebuildAll } from './prebuild.mjs';
import { root, setup } from './setup.mjs';

const help = `npm run prove:foreign              all of it
npm run prove:foreign -- arm64     some of it: arm64-user, arm64, arm64-16k, musl`;

const say = (text) => process.stderr.write(`prove: ${text}\n`);
const build = join(root, 'build/foreign');
const installed = join(build, 'installed');

function requireTools(tools) {
  const missing = Object.keys(tools).filter((tool) => spawnSync(tool, ['--version']).status !== 0);
  if (missing.length === 0) return;
  const packages = missing.map((tool) => tools[tool]).join(' ');
  throw new Error(
    `there is no ${missing.join(', ')}: sudo apt-get install --no-install-recommends ${packages}`,
  );
}

/** Runs a command to its end and returns what it has said. */
function output(command, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (part) => {
        text += part;
      });
    }
    child.on('error', reject);
    child.on('close', (code, signal) =>
      code === 0 ? resolve(text) : reject(new Error(`${command} ended with ${signal ?? code}:\n${text}`)),
    );
  });
}

/** What runs in one guest: Node of the npm registry, or what was made for musl, with the command that starts it. */
async function runtimesFor(arch) {
  const program = join(installed, 'program.mjs');
  const folder = join(build, `musl-${arch}`);
  const preload = await muslLibraries(arch, folder, say);
  const onMusl = (words) => `LD_LIBRARY_PATH='${folder}' LD_PRELOAD='${folder}/${preload}' ${words}`;
  const bun = {
    runtime: 'Bun ',
    libc: 'musl',
    command: onMusl(`'${await muslBun(arch, say)}' '${program}'`),
  };
  if (arch === 'arm64') {
    return [
      { runtime: 'Node 22.', libc: 'glibc', command: `'${await nodeBinary(22, say, arch)}' '${program}'` },
      bun,
    ];
  }
  const node = await muslNode(folder, program, say);
  chmodSync(node, 0o755);
  return [{ runtime: 'Node 26.', libc: 'musl', command: onMusl(`'${node}'`) }, bun];
}

/** All of them on a real kernel, with buffers from both sources. */
async function inGuest(arch, kernel) {
  const runtimes = await runtimesFor(arch);
  // The guest sees this machine's files; what it writes is dropped.
  const script = `
    ln -sf '${build}/musl-${arch}/loader' ${muslLoader(arch)}
    cd '${build}/musl-${arch}'
    export DMABUF_BPF=1 DMABUF_SOURCES='system udmabuf'
    ${runtimes.map(({ command }) => command).join('\n')}`;
  const { runInVm } = await import('dmabuf/vm');
  const stdout = new PassThrough();
  let text = '';
  stdout.setEncoding('utf8').on('data', (part) => {
    text += part;
  });
  say(`what the npm registry has for ${arch}, on the kernel ${kernel}: a minute or two`);
  const { exitCode } = await runInVm({
    command: ['sh', '-ec', script],
    arch,
    kernel,
    // Debian's other kernels have them built in.
    modules: arch === 'arm64' ? ['system_heap'] : [],
    timeout: 1_200_000,
    stdout,
    progress: say,
  });
  if (exitCode !== 0) throw new Error(`the guest's program ended with ${exitCode}:\n${text}`);
  const sources = ['system', 'udmabuf'];
  return report(
    text,
    runtimes.map(({ runtime, libc }) => ({ runtime, arch, libc, sources })),
  );
}

/** By what the table of platforms calls them: what has run, in the order in which it did. */
const proofs = {
  /** System calls are this machine's: no child processes, and QEMU does not know the ioctls of dma-bufs. */
  async 'arm64-user'() {
    requireTools({ 'qemu-aarch64': 'qemu-user' });
    const { provideForeign } = await import('../dist/lib/vm/foreign.js');
    const { programs } = await provideForeign({ arch: 'arm64', progress: say });
    const shown = [];
    for (const major of [20, 22, 24, 26]) {
      const node = await nodeBinary(major, say, 'arm64');
      say(`Node ${major} for arm64 under qemu-user`);
      const args = ['-L', programs, node, 'program.mjs'];
      const text = await output('qemu-aarch64', args, { cwd: installed, timeout: 600_000 });
      // The kernel is that of this machine.
      const [{ kernel: _, ...one }] = report(text, [
        { runtime: `Node ${major}.`, arch: 'arm64', libc: 'glibc' },
      ]);
      shown.push(one);
    }
    return shown;
  },

  arm64: () => inGuest('arm64', 'newest'),
  'arm64-16k': () => inGuest('arm64', 'newest-16k'),
  musl: () => inGuest('x64', 'newest'),
};

const wanted = process.argv.slice(2);
if (wanted.some((name) => !Object.hasOwn(proofs, name))) {
  console.log(help);
  process.exit(wanted.includes('--help') ? 0 : 1);
}
try {
  setup();
  await prebuildAll();
  checkBinaries();
  installProgram(build);
  checkBinaries(join(installed, 'node_modules/dmabuf'));
  for (const [name, prove] of Object.entries(proofs)) {
    if (wanted.length === 0 || wanted.includes(name)) record(name, await prove());
  }
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}
