// The README's table of platforms: made of what npm run prove:runtimes, prove:foreign and prove:arm64 last showed, which is kept
// in platforms.json. node scripts/platforms.mjs writes it into the README again.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from './setup.mjs';

const records = join(root, 'scripts/platforms.json');
const readme = join(root, 'README.md');

const allSteps = 'allocate from udmabuf and the system heap, map, fill, read, name, wait, share, inspect';

/** By what was shown, the rows in their order. What each has not shown is here as well. */
const rows = [
  {
    binary: 'linux-x64 glibc',
    by: '`npm test`, `npm run prove`: Node 20 to 26, Linux 6.12 and 7.3 (QEMU)',
    what: 'everything in the tests, CMA heaps among it (7.3)',
    not: 'caches that are not coherent',
  },
  {
    of: 'runtimes',
    binary: 'linux-x64 glibc',
    command: 'npm run prove:runtimes',
    what:
      "import, heaps, buffers from both sources, channels with buffers, waiting (on a thread of the package's in Bun and Deno), " +
      'snapshots by procfs and BPF, `dmabuf heaps` and `ls`',
    not: 'in Bun and Deno the other tests, workers, fences of devices, metrics over HTTP',
  },
  {
    of: 'musl',
    binary: 'linux-x64 musl',
    command: 'npm run prove:foreign',
    what: allSteps,
    not: 'an Alpine system; Node 20 to 24, of which there is none for musl on npm',
  },
  {
    of: 'arm64-tests',
    binary: 'linux-arm64 glibc',
    command: 'npm run prove:arm64',
    not: 'real hardware, whose caches need not be coherent',
  },
  {
    of: 'arm64',
    libc: 'glibc',
    binary: 'linux-arm64 glibc',
    command: 'npm run prove:foreign',
    what: allSteps,
    not: 'the other tests under this Node',
  },
  {
    of: 'arm64-16k',
    libc: 'glibc',
    binary: 'linux-arm64 glibc',
    command: 'npm run prove:foreign',
    what: `with pages of 16 KiB: ${allSteps}`,
    not: 'the other tests with such pages',
  },
  {
    of: 'arm64-user',
    binary: 'linux-arm64 glibc',
    command: 'npm run prove:foreign',
    what: 'an installed package loads by `import` and `require`; channels, fdinfo, errors',
    not: 'dma-bufs, whose ioctls that emulation lacks',
  },
  {
    of: 'arm64',
    libc: 'musl',
    binary: 'linux-arm64 musl',
    command: 'npm run prove:foreign',
    what: `${allSteps}`,
    not: 'Node itself, of which there is none for musl on npm',
  },
];

const numbers = new Intl.NumberFormat('en');

/** What a run has shown, in words. */
function shownBy({ command, libc }, { date, shown }) {
  const own = shown.filter((one) => libc === undefined || one.libc === libc);
  const runtimes = own.map(({ runtime }) => runtime).join(', ');
  const kernels = new Set(own.map(({ kernel }) => kernel?.replace(/\+.*/, '') ?? ''));
  const kernel = kernels.has('') ? 'emulated processors' : `Linux ${[...kernels].join(', ')} (QEMU)`;
  return `\`${command}\`, ${date}: ${runtimes}, ${kernel}`;
}

function whatOf(row, { totals }) {
  if (totals === undefined) return row.what;
  const { pass, fail, cancelled, skipped, parts } = totals;
  const failed = fail + cancelled;
  return (
    `${parts}: ${numbers.format(pass)} tests pass` +
    `${failed === 0 ? '' : `, ${numbers.format(failed)} fail`}, ${numbers.format(skipped)} are skipped`
  );
}

/** The table, as the README has it. */
export function table() {
  const recorded = JSON.parse(readFileSync(records, 'utf8'));
  const lines = rows
    .filter(({ of }) => of === undefined || recorded[of] !== undefined)
    .map((row, at, shown) => {
      const record = recorded[row.of];
      const by = record === undefined ? row.by : shownBy(row, record);
      const binary = row.binary === shown[at - 1]?.binary ? '' : row.binary;
      return `| ${binary} | ${by} | ${record === undefined ? row.what : whatOf(row, record)} | ${row.not} |`;
    });
  return ['| binary | proven by | what | not proven |', '|---|---|---|---|', ...lines, '']
    .join('\n')
    .replaceAll('|  |', '| |');
}

const place = /(?<=\n## Platforms\n\n)(\|.*\n)+/;

/** The table that is in the README. */
export function tableInReadme() {
  return place.exec(readFileSync(readme, 'utf8'))?.[0];
}

function write() {
  writeFileSync(
    readme,
    readFileSync(readme, 'utf8').replace(place, () => table()),
  );
}

/** Keeps what a command has just shown, and has the README say so. */
export function record(of, shown, totals) {
  const all = JSON.parse(readFileSync(records, 'utf8'));
  all[of] = { date: new Date().toISOString().slice(0, 10), shown, ...(totals && { totals }) };
  writeFileSync(records, `${JSON.stringify(all, undefined, 2)}\n`);
  write();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) write();
