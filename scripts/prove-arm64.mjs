// npm run prove:arm64: the tests that need a kernel, in a guest with an emulated arm64 processor (docs/vm.md).

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { nodeBinary } from './cached.mjs';
import { record } from './platforms.mjs';
import { root, setup } from './setup.mjs';

const help = `npm run prove:arm64                    the kernel and the life-cycle tests in arm64 guests, which takes an hour or two
npm run prove:arm64 -- kernel/memory   the test files whose path contains one of these
npm run prove:arm64 -- --kernel stable on another kernel than the newest: stable, a series, or newest-16k
npm run prove:arm64 -- --jobs 2        so many guests at a time; the default is one`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string', default: 'newest' },
    jobs: { type: 'string', default: '1' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(help);
  process.exit();
}

const arch = 'arm64';
const progress = (text) => process.stderr.write(`prove: ${text}\n`);

/** The tests, and their totals where they have come to their end. */
async function runTests(folder) {
  const totals = join(folder, 'totals.json');
  const words = ['--arch', arch, '--kernel', options.kernel, '--jobs', options.jobs, '--totals', totals];
  const child = spawn(process.execPath, ['scripts/test.mjs', ...words, ...positionals], {
    cwd: root,
    stdio: 'inherit',
  });
  const onSignal = (signal) => child.kill(signal);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, onSignal);
  process.exitCode = await new Promise((resolve) => child.on('close', (status) => resolve(status ?? 1)));
  return JSON.parse(readFileSync(totals, 'utf8'));
}

/** As the programs in the guest say it. */
async function runtime() {
  const node = await nodeBinary(process.versions.node.split('.')[0], progress, arch);
  const { version } = JSON.parse(readFileSync(join(node, '../../package.json'), 'utf8'));
  return `Node ${version}`;
}

const folder = mkdtempSync(join(tmpdir(), 'dmabuf-arm64-'));
try {
  setup();
  const totals = await runTests(folder);
  // Some of the tests show nothing of the platform.
  if (positionals.length === 0 && options.kernel === 'newest') {
    const { findKernel } = await import('../dist/lib/vm/kernels.js');
    const { release: kernel } = await findKernel(options.kernel, { arch, progress });
    const shown = [{ arch, libc: 'glibc', runtime: await runtime(), kernel }];
    record('arm64-tests', shown, { ...totals, parts: 'the kernel, life-cycle and module tests' });
  }
} catch (error) {
  progress(error.message);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true });
}
