// The packed package with program.mjs beside it, and what the program has said on some machine.

import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pack } from '../pack.mjs';
import { root, run } from '../setup.mjs';

/** Packs the package and installs it as a user would, in a new folder, with the program beside it. Returns where. */
export function installProgram(folder) {
  const installed = join(folder, 'installed');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(installed, { recursive: true });
  const args = ['install', '--prefix', installed, '--ignore-scripts', '--no-audit', '--no-fund'];
  run('installing the packed package', 'npm', [...args, pack(folder).tarball]);
  copyFileSync(join(root, 'scripts/foreign/program.mjs'), join(installed, 'program.mjs'));
  return installed;
}

/** Prints what the program has proven in its runs, and returns it, after a look whether these were the runs that were meant. */
export function report(text, expected) {
  const found = [...text.matchAll(/^proven: (.*)$/gm)].map(([, json]) => JSON.parse(json));
  return expected.map(({ runtime, arch, libc, sources = [] }) => {
    const proof = found.shift();
    const right =
      proof?.runtime.startsWith(runtime) &&
      proof.arch === arch &&
      proof.addon === `dmabuf/prebuilds/linux-${arch}/dmabuf.${libc}.node` &&
      sources.every((source) => proof.buffers[source]?.seenBy.join() === 'procfs,bpf');
    if (!right) throw new Error(`not proven for ${runtime} on ${arch} with ${libc}:\n${text}`);
    const buffers = sources.length === 0 ? 'no buffers' : `buffers from ${sources.join(' and ')}`;
    console.log(`linux-${arch} ${libc}: ${proof.runtime}, Linux ${proof.kernel}, ${buffers}`);
    return { arch, libc, runtime: proof.runtime, kernel: proof.kernel };
  });
}
