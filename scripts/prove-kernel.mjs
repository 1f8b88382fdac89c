// npm run prove:kernel: everything that runs on a kernel, on one that checks itself (scripts/checked-kernel.mjs).

import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { checkedKernel } from './checked-kernel.mjs';
import { root, setup } from './setup.mjs';

const help = `npm run prove:kernel                    builds a kernel that checks itself, once (10 to 20 minutes), and runs all tests
                                        that need a kernel on it, with failing allocations; a report of the
                                        kernel's in its log fails it, whatever the tests say
npm run prove:kernel -- kernel/memory   the test files whose path contains one of these
npm run prove:kernel -- --build         builds it and says where it is, to use with --kernel
npm run prove:kernel -- --newest        asks whether Debian's source has moved on, and builds it anew then
npm run prove:kernel -- --append WORDS  words for the kernel's command line
npm run prove:kernel -- --jobs 1        one guest at a time; the default is one for each CPU, at most four`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    build: { type: 'boolean' },
    newest: { type: 'boolean' },
    append: { type: 'string' },
    jobs: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(help);
  process.exit();
}

const say = (text) => process.stderr.write(`prove: ${text}\n`);
const interrupted = new AbortController();
const signals = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };
for (const [signal, status] of Object.entries(signals)) {
  process.once(signal, () => {
    process.exitCode = status;
    interrupted.abort(new Error(`${signal}: nothing of what was being built is kept`));
  });
}

/** The tests, with those signals passed on. */
function runTests(kernel) {
  const passedOn = ['append', 'jobs'].flatMap((name) =>
    options[name] === undefined ? [] : [`--${name}=${options[name]}`],
  );
  const args = ['scripts/test.mjs', '--checked', '--kernel', kernel, ...passedOn, ...positionals];
  const child = spawn(process.execPath, args, { cwd: root, stdio: 'inherit' });
  interrupted.signal.addEventListener('abort', () => child.kill('SIGTERM'));
  return new Promise((resolve) => child.on('close', (status) => resolve(status ?? 1)));
}

try {
  setup();
  const { signal } = interrupted;
  const kernel = await checkedKernel({ progress: say, signal, isNewest: options.newest });
  if (options.build) console.log(kernel);
  else {
    const status = await runTests(kernel);
    process.exitCode ??= status;
  }
} catch (error) {
  const { aborted, reason } = interrupted.signal;
  say((aborted ? reason : error).message);
  process.exitCode ??= 1;
}
