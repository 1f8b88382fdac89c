// Makes a fresh clone ready: dependencies, the addon, the compiled TypeScript. Does only what is out of date.
// Plain JavaScript without imports from node_modules, which may not be there yet.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

const say = (text) => process.stderr.write(`setup: ${text}\n`);

/** The time of the last change below the paths, in ms; 0 where there is nothing. */
export function changed(...paths) {
  let latest = 0;
  for (const path of paths) {
    const full = join(root, path);
    if (!existsSync(full)) continue;
    const status = statSync(full);
    latest = Math.max(latest, status.mtimeMs);
    if (status.isDirectory()) {
      latest = Math.max(latest, ...readdirSync(full).map((entry) => changed(join(path, entry))));
    }
  }
  return latest;
}

/** Runs a program in silence; where it fails, with all that it said. */
export function run(what, command, args, env) {
  say(what);
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 256 << 20, env: { ...process.env, ...env } };
  const { status, error, stdout, stderr } = spawnSync(command, args, options);
  if (status === 0) return;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  throw new Error(`${what} failed: ${error?.message ?? `${command} ${args.join(' ')} ended with ${status}`}`);
}

function requireTools() {
  const missing = ['g++', 'make', 'python3'].filter(
    (tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).status !== 0,
  );
  if (missing.length > 0) {
    throw new Error(`building the addon needs ${missing.join(', ')}: apt-get install ${missing.join(' ')}`);
  }
}

/** Node's own headers where the machine has the matching ones, so that node-gyp need not download them. */
export function headers() {
  if (process.env.npm_config_nodedir) return [];
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, 'include/node/node_api.h')) ? ['--nodedir', prefix] : [];
}

/** Builds an addon where it is older than its sources. `folder`: the one with its binding.gyp. */
export function build(title, folder, name, sources, env) {
  if (changed(join(folder, 'build/Release', `${name}.node`)) >= changed(...sources)) return;
  requireTools();
  const args = ['rebuild', '-C', folder, ...headers()];
  // Users build with compilers that are not known yet, so binding.gyp does not ask for it.
  const strict = { CXXFLAGS: '-Werror', JOBS: 'max' };
  run(
    `building ${title} (node-gyp), which may take a minute`,
    join(root, 'node_modules/.bin/node-gyp'),
    args,
    { ...strict, ...env },
  );
}

/** The addons that only tests load, and their sources in test/NAME. */
export const testAddons = [
  {
    title: "the tests' fences",
    name: 'fences',
    files: ['fences.cc', 'faults.cc', 'faults.h', 'binding.gyp'],
  },
  {
    title: 'the fault injection',
    name: 'inject',
    files: ['inject.cc', 'order.cc', 'order.h', 'wrappers.cc', 'wrappers.h', 'binding.gyp'],
  },
];

function buildForTests() {
  for (const { title, name, files } of testAddons) {
    const folder = join('test', name);
    build(
      title,
      folder,
      name,
      files.map((file) => join(folder, file)),
    );
  }
}

/** `withTests`: also the addons that only tests load. */
function bringUpToDate(withTests) {
  if (changed('node_modules/.package-lock.json') < changed('package-lock.json')) {
    run('installing dependencies (npm ci), which may take a few minutes', 'npm', [
      'ci',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
    ]);
  }
  build('the addon', '.', 'dmabuf', ['native', 'binding.gyp']);
  if (withTests) buildForTests();
  const stamp = 'dist/.compiled';
  if (
    changed(stamp) < changed('lib', 'test', 'bench', 'examples', 'tsconfig.json', 'scripts/rollup.config.mjs')
  ) {
    rmSync(join(root, 'dist'), { recursive: true, force: true });
    run('compiling TypeScript (tsc)', join(root, 'node_modules/.bin/tsc'), ['-p', '.']);
    const bundle = ['--config', 'scripts/rollup.config.mjs', '--silent'];
    run('bundling the package (rollup)', join(root, 'node_modules/.bin/rollup'), bundle);
    writeFileSync(join(root, stamp), '');
  }
}

/** Brings everything up to date, or says what went wrong and ends the process. */
export function setup({ withTests = true } = {}) {
  try {
    bringUpToDate(withTests);
  } catch (error) {
    say(error.message);
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setup();
  say('ready');
}
