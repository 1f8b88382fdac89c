// npm run check: everything that reads the code without running it.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { root, setup } from './setup.mjs';

setup();
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
check('every exported declaration has its type', bin('tsc'), ['-p', 'tsconfig.lib.json']);
check('every export is documented (typedoc)', process.execPath, ['scripts/docs.mjs', '--check']);
const native = sources('native', 'native/js', 'native/os');
check('C and C++: format', bin('clang-format'), ['--dry-run', '-Werror', ...native, ...sources('bench')]);

const require = createRequire(import.meta.url);
const nodePrefix = process.env.npm_config_nodedir ?? dirname(dirname(process.execPath));
const headers = [
  join(nodePrefix, 'include/node'),
  join(homedir(), '.cache/node-gyp', process.versions.node, 'include/node'),
].find((path) => existsSync(join(path, 'node_api.h')));
check('C++: clang-tidy', 'clang-tidy', [
  '--quiet',
  ...native.filter((name) => name.endsWith('.cc')),
  '--',
  '-std=c++17',
  '-Inative',
  `-isystem${dirname(require.resolve('node-addon-api'))}`,
  ...(headers ? [`-isystem${headers}`] : []),
  '-DNAPI_VERSION=8',
  '-DNAPI_DISABLE_CPP_EXCEPTIONS',
]);

// A user's project: the package by its name, their own compiler options.
const consumer = join(root, 'build/consumer');
rmSync(consumer, { recursive: true, force: true });
mkdirSync(join(consumer, 'node_modules/@types'), { recursive: true });
symlinkSync(root, join(consumer, 'node_modules/dmabuf'));
symlinkSync(join(root, 'node_modules/@types/node'), join(consumer, 'node_modules/@types/node'));
symlinkSync(join(root, 'test/types/consumer.ts'), join(consumer, 'consumer.ts'));
writeFileSync(join(consumer, 'package.json'), '{ "type": "module" }');
for (const skipLibCheck of [false, true]) {
  for (const [module, moduleResolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ]) {
    const compilerOptions = {
      target: 'es2022',
      lib: ['es2022', 'esnext.disposable'],
      module,
      moduleResolution,
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      preserveSymlinks: true,
      types: ['node'],
      skipLibCheck,
    };
    const name = `tsconfig.${moduleResolution}.${skipLibCheck}.json`;
    writeFileSync(join(consumer, name), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
    check(`types in a user's project: ${moduleResolution}, skipLibCheck ${skipLibCheck}`, bin('tsc'), [
      '-p',
      join(consumer, name),
    ]);
  }
}
check('the package as npm would publish it (publint)', bin('publint'), ['--strict']);

for (const title of failed) process.stderr.write(`check: FAILED: ${title}\n`);
if (failed.length > 0) process.exitCode = 1;
else process.stderr.write('check: all good\n');
