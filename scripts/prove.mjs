// npm run prove: the package as npm packs it, installed into empty projects by several versions of npm and Node, from an
// empty cache and without a compiler; used by import and by require, and on a real kernel.
// npm run prove -- --quick: the oldest and the newest of them; that is what CI runs.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkBinaries } from './binaries.mjs';
import { nodeBinary, npmPackage } from './cached.mjs';
import { pack } from './pack.mjs';
import { prebuildAll } from './prebuild.mjs';
import { headers, root, setup } from './setup.mjs';

const { quick } = parseArgs({ options: { quick: { type: 'boolean' } } }).values;
const folder = join(root, 'build/prove');
const say = (text) => process.stderr.write(`prove: ${text}\n`);

/** npm 12 refuses Node 20. */
const isPossible = ({ npm, node }) => !(npm === '12' && node === '20');
const all = ['10', '11', '12'].flatMap((npm) => ['20', '22', '24', '26'].map((node) => ({ npm, node })));
const wanted = quick ? [all.at(0), all.at(-1)] : all.filter(isPossible);

function run(what, command, args, options) {
  const { status, signal, error, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(`${what}: ${error?.message ?? `exit ${status ?? signal}`}\n${stdout ?? ''}${stderr ?? ''}`);
}

/** What a user's program does first. The addon must be the package's own binary for this C library. */
const firstUse = `
  import { readFileSync } from 'node:fs';
  import { createRequire } from 'node:module';
  import { DmaBufError, DmaHeap } from 'dmabuf';
  const require = createRequire(import.meta.url);
  if (require('dmabuf').DmaHeap !== DmaHeap) throw new Error('import and require differ');
  for (const part of ['inspect', 'metrics', 'vm']) await import('dmabuf/' + part), require('dmabuf/' + part);
  DmaHeap.list();
  try {
    DmaHeap.open('no such heap');
  } catch (error) {
    if (!(error instanceof DmaBufError)) throw error;
  }
  console.log(/\\S+dmabuf[\\w.]*\\.node$/m.exec(readFileSync('/proc/self/maps', 'utf8'))[0]);
`;

async function install({ npm, node }, tarball) {
  const binary = await nodeBinary(node, say);
  const npmCli = join(await npmPackage(`npm@${npm}`, say), 'node_modules/npm/bin/npm-cli.js');
  const project = join(folder, `npm-${npm}-node-${node}`);
  // A PATH with Node and nothing else.
  mkdirSync(join(project, 'bin'), { recursive: true });
  symlinkSync(binary, join(project, 'bin/node'));
  const env = {
    PATH: join(project, 'bin'),
    HOME: join(project, 'home'),
    npm_config_cache: join(project, 'cache'),
    // Where the registry is.
    npm_config_userconfig: process.env.npm_config_userconfig ?? join(homedir(), '.npmrc'),
    ...Object.fromEntries(
      Object.entries(process.env).filter(([name]) =>
        /^(npm_config_registry|NODE_EXTRA_CA_CERTS|https?_proxy)$/i.test(name),
      ),
    ),
  };
  const options = { cwd: project, env };
  writeFileSync(join(project, 'package.json'), '{ "private": true }');
  run('npm install', binary, [npmCli, 'install', '--no-audit', '--no-fund', tarball], options);
  const place = 'node_modules/dmabuf/prebuilds/linux-x64/dmabuf.glibc.node';
  const loaded = run('first use', binary, ['--input-type=module', '-e', firstUse], options).trim();
  if (loaded !== realpathSync(join(project, place))) throw new Error(`${loaded} was loaded, not ${place}`);
  run('dmabuf --version', binary, [join(project, 'node_modules/.bin/dmabuf'), '--version'], options);
  copyFileSync(join(root, 'dist/examples/demo.js'), join(project, 'demo.mjs'));
  return { title: `npm ${npm}, Node ${node}`, project, binary };
}

/** The demo of each project, one after the other in one guest. */
async function runDemos(installed, kernel) {
  const { runInVm } = await import('dmabuf/vm');
  const steps = installed.map(
    ({ title, project, binary }) =>
      `echo; echo "=== ${title}"; cd '${project}' && '${binary}' demo.mjs || { echo "=== ${title} failed"; exit 1; }`,
  );
  const { exitCode } = await runInVm({
    command: ['sh', '-c', steps.join('\n')],
    kernel,
    timeout: 900,
    progress: (text) => say(`the demo on Linux ${kernel}: ${text}`),
  });
  if (exitCode !== 0) throw new Error(`the demo on Linux ${kernel} ended with ${exitCode}`);
}

/** The one command that the README gives. */
function buildFromSource({ project }) {
  const [, nodedir] = headers();
  const env = { ...process.env, ...(nodedir && { npm_config_nodedir: nodedir }) };
  const command =
    'npm install --no-save node-gyp node-addon-api && npx node-gyp rebuild -C node_modules/dmabuf/native';
  run('building from source', 'sh', ['-c', command], { cwd: project, env });
  const loaded = run('first use', process.execPath, ['--input-type=module', '-e', firstUse], {
    cwd: project,
  }).trim();
  if (!loaded.endsWith('build/Release/dmabuf.node'))
    throw new Error(`${loaded} was loaded, not what was built`);
}

setup();
try {
  await prebuildAll();
  checkBinaries();
  rmSync(folder, { recursive: true, force: true });
  const { tarball } = pack(folder);
  const installed = [];
  for (const combination of wanted.filter(isPossible)) {
    const result = await install(combination, tarball);
    say(`${result.title}: installed from an empty cache, imported and required`);
    installed.push(result);
  }
  for (const kernel of quick ? ['7.2'] : ['6.12', '7.2']) await runDemos(installed, kernel);
  if (!quick) {
    buildFromSource(installed[0]);
    say('built from source where the package is installed');
  }
  say(`all good: ${installed.map(({ title }) => title).join('; ')}`);
} catch (error) {
  say(`FAILED: ${error.message}`);
  process.exitCode = 1;
}
