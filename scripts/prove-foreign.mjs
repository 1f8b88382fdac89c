// npm run prove:foreign: the binaries of the package that this machine cannot run by itself, each where it belongs:
// arm64 under QEMU, musl under musl's loader. What is proven is what foreign/program.mjs checks.

import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { checkBinaries } from './binaries.mjs';
import { nodeBinary } from './cached.mjs';
import { folderEntries, runInArm64 } from './foreign/arm64-guest.mjs';
import { arm64KernelWithHeap } from './foreign/arm64-heap.mjs';
import { debianPackages } from './foreign/debian.mjs';
import { muslBun, muslLibraries, muslLoader, muslNode } from './foreign/musl.mjs';
import { installProgram, report } from './foreign/proof.mjs';
import { prebuildAll } from './prebuild.mjs';
import { root, setup } from './setup.mjs';

const help = `npm run prove:foreign              all of it
npm run prove:foreign -- arm64     some of it: arm64-user, arm64, arm64-heap, musl`;

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

const arm64Libraries = () =>
  debianPackages(
    {
      suite: 'trixie',
      arch: 'arm64',
      names: ['libc6', 'libstdc\\+\\+6', 'libgcc-s1', 'libatomic1', 'busybox-static'],
    },
    say,
  );

/** Node with the binary for glibc and Bun with the one for musl, on an arm64 kernel. */
async function inArm64Guest(title, { kernel, modules = [], sources }) {
  const libraries = await arm64Libraries();
  const musl = join(build, 'musl-arm64');
  const preload = await muslLibraries('arm64', musl, say);
  const file = (path, as) => ({ path: as, data: readFileSync(path), mode: 0o755 });
  const entries = [
    file(join(libraries, 'usr/bin/busybox'), 'bin/busybox'),
    ...folderEntries(join(libraries, 'usr/lib/aarch64-linux-gnu'), 'lib').filter(({ path }) =>
      /\.so\.\d+$/.test(path),
    ),
    file(await nodeBinary(22, say, 'arm64'), 'bin/node'),
    file(await muslBun('arm64', say), 'bin/bun'),
    file(join(musl, 'loader'), muslLoader('arm64').slice(1)),
    ...folderEntries(musl, 'musl'),
    ...folderEntries(installed, 'proof'),
    ...modules.map((path, index) => file(path, `modules/${index}.ko`)),
  ];
  const commands = `
    for module in /modules/*.ko; do [ ! -e $module ] || insmod $module; done
    cd /proof
    export DMABUF_SOURCES='${sources.join(' ')}' DMABUF_BPF=1
    node program.mjs
    LD_LIBRARY_PATH=/musl LD_PRELOAD=/musl/${preload} bun program.mjs`;
  say(`Node and Bun on ${title}: a minute`);
  const archive = join(build, 'arm64.cpio');
  report(await runInArm64({ kernel, archive, entries, commands, seconds: 500 }), [
    { runtime: 'Node 22.', arch: 'arm64', libc: 'glibc', sources },
    { runtime: 'Bun ', arch: 'arm64', libc: 'musl', sources },
  ]);
}

const proofs = {
  /** System calls are this machine's: no child processes, and QEMU does not know the ioctls of dma-bufs. */
  async 'arm64-user'() {
    requireTools({ 'qemu-aarch64': 'qemu-user' });
    const libraries = await arm64Libraries();
    for (const major of [20, 22, 24, 26]) {
      const node = await nodeBinary(major, say, 'arm64');
      say(`Node ${major} for arm64 under qemu-user`);
      const args = ['-L', libraries, node, 'program.mjs'];
      const text = await output('qemu-aarch64', args, { cwd: installed, timeout: 120_000 });
      report(text, [{ runtime: `Node ${major}.`, arch: 'arm64', libc: 'glibc' }]);
    }
  },

  /** Debian's kernels for arm64 have no heaps, but udmabuf; one of them has pages of 16 KiB. */
  async arm64() {
    requireTools({ 'qemu-system-aarch64': 'qemu-system-arm' });
    for (const pages of ['', '-16k']) {
      const names = [`linux-binary-7\\.2\\.[0-9]+\\+deb13-arm64${pages}`];
      const packages = await debianPackages({ suite: 'trixie-backports', arch: 'arm64', names }, say);
      const [release] = readdirSync(join(packages, 'usr/lib/modules'));
      await inArm64Guest(`Debian's kernel for arm64${pages}`, {
        kernel: join(packages, 'usr/lib/modules', release, 'vmlinuz'),
        sources: ['udmabuf'],
      });
    }
  },

  /** The same with the kernel's own heaps, compiled as modules. */
  async 'arm64-heap'() {
    requireTools({
      'qemu-system-aarch64': 'qemu-system-arm',
      'aarch64-linux-gnu-gcc': 'gcc-aarch64-linux-gnu',
      make: 'make',
    });
    const kernel = await arm64KernelWithHeap(say);
    await inArm64Guest('the same with heaps', { ...kernel, sources: ['system', 'udmabuf'] });
  },

  async musl() {
    const folder = join(build, 'musl-x64');
    const preload = await muslLibraries('x64', folder, say);
    const node = await muslNode(folder, join(installed, 'program.mjs'), say);
    chmodSync(node, 0o755);
    const bun = await muslBun('x64', say);
    // The guest sees this machine's files; what it writes is dropped.
    const script = `
      ln -sf "$1/loader" ${muslLoader('x64')}
      cd "$1"
      export LD_LIBRARY_PATH="$1" LD_PRELOAD="$1/${preload}" DMABUF_BPF=1 DMABUF_SOURCES='system udmabuf'
      "$2"
      exec "$3" "$4"`;
    const { runInVm } = await import('dmabuf/vm');
    const stdout = new PassThrough();
    let text = '';
    stdout.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    say('Node and Bun for musl on a real kernel: a minute');
    const { exitCode } = await runInVm({
      command: ['sh', '-ec', script, 'sh', folder, node, bun, join(installed, 'program.mjs')],
      timeout: 400,
      stdout,
      progress: say,
    });
    if (exitCode !== 0) throw new Error(`the guest's program ended with ${exitCode}:\n${text}`);
    report(text, [
      { runtime: 'Node 26.', arch: 'x64', libc: 'musl', sources: ['system', 'udmabuf'] },
      { runtime: 'Bun ', arch: 'x64', libc: 'musl', sources: ['system', 'udmabuf'] },
    ]);
  },
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
    if (wanted.length === 0 || wanted.includes(name)) await prove();
  }
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}
