// npm run check: everything that reads the code without running it.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { npmPackage } from './cached.mjs';
import { report } from './english.mjs';
import { pack } from './pack.mjs';
import { root, setup } from './setup.mjs';
import { filesTooLong } from './sizes.mjs';

setup();
// It imports a package, and a fresh clone has none before `setup()`.
const { wrongNamesOf } = await import('./native-names.mjs');
const failed = [];

function check(title, command, args, options = {}) {
  process.stderr.write(`check: ${title}\n`);
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    ...options,
  });
  if (status === 0) return;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  failed.push(
    error?.code === 'ENOENT' ? `${title}: there is no ${command} (apt-get install ${command})` : title,
  );
}

const bin = (name) => join(root, 'node_modules/.bin', name);
const sources = (...folders) =>
  folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => /\.(cc|h|c)$/.test(name))
      .map((name) => join(folder, name)),
  );

check('TypeScript and JavaScript: format and lint', bin('biome'), ['check', '--error-on-warnings']);
process.stderr.write('check: no file is too long\n');
failed.push(...filesTooLong(root));
check('every exported declaration has its type', bin('tsc'), ['-p', 'tsconfig.lib.json']);
check('every export is documented (typedoc)', process.execPath, ['scripts/docs.mjs', '--check']);
for (const wrong of wrongNamesOf(root)) {
  process.stderr.write(`${wrong}\n`);
  failed.push("the addon's names are those of lib/native.ts");
}
const native = sources('native', 'native/js', 'native/os');
const otherC = sources('bench', 'kernel-modules');
check('C and C++: format', bin('clang-format'), ['--dry-run', '-Werror', ...native, ...otherC]);

const require = createRequire(import.meta.url);
const nodePrefix = process.env.npm_config_nodedir ?? dirname(dirname(process.execPath));
const headers = [
  join(nodePrefix, 'include/node'),
  join(homedir(), '.cache/node-gyp', process.versions.node, 'include/node'),
].find((path) => existsSync(join(path, 'node_api.h')));
const compileOptions = [
  '-std=c++17',
  '-Inative',
  `-isystem${dirname(require.resolve('node-addon-api'))}`,
  ...(headers ? [`-isystem${headers}`] : []),
  '-DNAPI_VERSION=8',
  '-DNAPI_DISABLE_CPP_EXCEPTIONS',
  '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
];
// By itself it takes one file after the other.
check(
  'C++: clang-tidy',
  'xargs',
  ['-P', availableParallelism(), '-I{}', 'clang-tidy', '--quiet', '{}', '--', ...compileOptions],
  { input: native.filter((name) => name.endsWith('.cc')).join('\n') },
);

// A user's project: the package as npm would install it, by its name, with their own compiler and its options.
const { tarball } = pack(join(root, 'build/packed'));
const consumer = join(root, 'build/consumer');
const installed = join(consumer, 'node_modules/dmabuf');
rmSync(consumer, { recursive: true, force: true });
mkdirSync(installed, { recursive: true });
check('the package unpacks', 'tar', ['-xzf', tarball, '-C', installed, '--strip-components=1']);
writeFileSync(join(consumer, 'package.json'), '{ "type": "module" }');
for (const name of ['consumer.ts', 'consumer.cts'])
  copyFileSync(join(root, 'test/types', name), join(consumer, name));
const strict = { strict: true, exactOptionalPropertyTypes: true, noUnusedLocals: true, types: ['node'] };
const nodenext = { module: 'nodenext', moduleResolution: 'nodenext' };
const projects = {
  nodenext: { ...strict, ...nodenext, lib: ['es2022', 'esnext.disposable'] },
  bundler: { ...strict, module: 'esnext', moduleResolution: 'bundler', lib: ['es2022', 'esnext.disposable'] },
  // Neither a newer library of JavaScript nor the types of Node are asked for.
  plain: { strict: true, ...nodenext, lib: ['es2022'], types: [] },
  commonjs: { ...strict, ...nodenext, lib: ['es2022'] },
};
for (const [name, options] of Object.entries(projects)) {
  const compilerOptions = { target: 'es2022', noEmit: true, skipLibCheck: false, ...options };
  const files = [name === 'commonjs' ? 'consumer.cts' : 'consumer.ts'];
  writeFileSync(join(consumer, `tsconfig.${name}.json`), JSON.stringify({ compilerOptions, files }));
}
const modules = ['nodenext', 'bundler', 'plain'];
// The oldest that know `using`, and `require()` of ES modules; then each newer major.
const compilers = {
  '5.2.2': modules,
  '5.8.3': ['commonjs'],
  '6.0.3': [...modules, 'commonjs'],
  'of this project': [...modules, 'commonjs'],
};
const say = (text) => process.stderr.write(`check: ${text}\n`);
for (const [version, names] of Object.entries(compilers)) {
  const older = /^\d/.test(version) && (await npmPackage(`typescript@${version}`, say));
  const tsc = older ? join(older, 'node_modules/.bin/tsc') : bin('tsc');
  for (const name of names) {
    const args = ['-p', join(consumer, `tsconfig.${name}.json`)];
    check(`types in a user's project: TypeScript ${version}, ${name}`, tsc, args);
  }
}

const spelling = await npmPackage('cspell@9.8.0', say);
check(
  'spelling (cspell; words of the field are in scripts/words.txt)',
  join(spelling, 'node_modules/.bin/cspell'),
  ['lint', '--no-progress', '--no-summary'],
);

say('English (scripts/english.mjs)');
const faults = report();
if (faults.length > 0) {
  process.stderr.write(`${faults.join('\n')}\n`);
  failed.push('English (scripts/english.mjs)');
}

const types = await npmPackage('@arethetypeswrong/cli@0.18.5', say);
check("the package's types are those of its code (attw)", join(types, 'node_modules/.bin/attw'), [
  tarball,
  // Without the resolution of TypeScript 4, which knows no "exports" and which TypeScript 7 has dropped.
  '--profile=node16',
  // That CommonJS gets an ES module: all supported versions of Node can require() it.
  '--ignore-rules=cjs-resolves-to-esm',
]);
check('the package as npm would publish it (publint)', bin('publint'), ['--strict']);

for (const title of failed) process.stderr.write(`check: FAILED: ${title}\n`);
if (failed.length > 0) process.exitCode = 1;
else process.stderr.write('check: all good\n');
