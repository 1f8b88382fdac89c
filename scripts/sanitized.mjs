// The package a second time, in build/asan, with an addon that has AddressSanitizer and UndefinedBehaviorSanitizer
// built in: for npm run test:asan.

import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { build, root, setup } from './setup.mjs';

const sanitizedRoot = join(root, 'build/asan');
const reports = join(sanitizedRoot, 'reports');

const flags = '-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined';

/** Brings the second package up to date with the first. */
export function setupSanitized() {
  setup();
  rmSync(reports, { recursive: true, force: true });
  mkdirSync(reports, { recursive: true });
  chmodSync(reports, 0o777); // Some tests run as nobody.
  for (const name of readdirSync(root)) {
    const link = join(sanitizedRoot, name);
    if (!['.git', 'build', 'dist'].includes(name) && !existsSync(link)) symlinkSync(join(root, name), link);
  }
  // Not a link: a module looks for the addon from where it really is.
  rmSync(join(sanitizedRoot, 'dist'), { recursive: true, force: true });
  cpSync(join(root, 'dist'), join(sanitizedRoot, 'dist'), { recursive: true });
  build(
    'the addon with sanitizers',
    'build/asan',
    'dmabuf',
    ['native', 'binding.gyp', 'scripts/sanitized.mjs'],
    {
      CXX: 'g++',
      CXXFLAGS: flags,
      LDFLAGS: flags,
    },
  );
}

/** The exit status of a sanitized command in which a sanitizer had something to report. */
export const reported = 86;

/**
 * The command with what it needs to run under sanitizers, among it variables besides the caller's. It ends with `reported` when any process, however that
 * one was expected to end, has left a report; reports are printed then, since a guest's files go with it.
 */
export function sanitized(command) {
  const script = `"$@"; status=$?; cat reports/* >&2 2>/dev/null && exit ${reported}; exit $status`;
  return { command: ['sh', '-c', script, 'sh', ...command], cwd: sanitizedRoot, env: environment() };
}

function environment() {
  const { stdout: library } = spawnSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' });
  // The same for both: libubsan sets the path of libasan's reports, and writes its own to stderr.
  const common = { log_path: join(reports, 'report'), abort_on_error: 1 };
  const asan = {
    ...common,
    handle_abort: 2, // Has libubsan's end, and any other abort(), reported too, whatever Node does with signals.
    handle_segv: 0, // A test expects the signal.
    detect_stack_use_after_return: 1,
    detect_leaks: 0, // Node leaks as it exits.
    // Node allocates a lot: what is kept of it costs time, and looks like a leak to the tests.
    malloc_context_size: 2,
    quarantine_size_mb: 16,
  };
  const text = (options) =>
    Object.entries(options)
      .map(([name, value]) => `${name}=${value}`)
      .join(':');
  return {
    LD_PRELOAD: library.trim(),
    // The caller's come last, and so win.
    ASAN_OPTIONS: `${text(asan)}:${process.env.ASAN_OPTIONS ?? ''}`,
    UBSAN_OPTIONS: text({ ...common, print_stacktrace: 1 }),
  };
}
