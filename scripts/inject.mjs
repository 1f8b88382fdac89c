// npm run inject [-- options] [scripts]: every system call of the addon fails, with every errno that it may have, in
// scripts that use every public function (test/inject), on a real kernel.

import { parseArgs } from 'node:util';
import { testVariables } from './guest-environment.mjs';
import { root, setup } from './setup.mjs';

const help = `npm run inject                     every call that fails once, and from then on, on the newest kernel; a table of what became of it
npm run inject -- --kernel stable  on another kernel
npm run inject -- --quick          each call and errno once in each script, as npm test has it
npm run inject -- --allocations --kernel PATH
                                   instead the kernel fails in its allocations within the calls, one after the other: on a kernel
                                   with CONFIG_FAULT_INJECTION, as npm run prove:kernel builds one
npm run inject -- --most 3         of each kind of call so many in each script, at equal distances; the default is 40
npm run inject -- --rules          also which ways round and which documented codes there were, and how often
npm run inject -- --outcomes       also what became of each, as a line of JSON on standard error, to judge it by other rules
npm run inject -- DmaBufChannel    the scripts whose name contains this`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string', default: 'newest' },
    quick: { type: 'boolean' },
    allocations: { type: 'boolean' },
    most: { type: 'string' },
    rules: { type: 'boolean' },
    outcomes: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(help);
  process.exit();
}

setup();
const { runInVm } = await import('dmabuf/vm');
const flags = ['quick', 'allocations', 'rules', 'outcomes']
  .filter((name) => options[name])
  .map((name) => `--${name}`);
if (options.most !== undefined) flags.push(`--most=${options.most}`);
const { exitCode, splats } = await runInVm({
  command: [process.execPath, 'dist/test/inject/main.js', ...flags, ...positionals],
  cwd: root,
  env: testVariables(),
  kernel: options.kernel,
  modules: ['vgem'],
  timeout: 6 * 3_600_000,
  progress: (text) => process.stderr.write(`inject: ${text}\n`),
});
process.exitCode = exitCode;
// Who lets calls and allocations fail walks the kernel's paths that nobody else does.
for (const { text } of splats) console.log(`✖ the kernel says:\n${text}`);
if (splats.length > 0) process.exitCode ||= 1;
