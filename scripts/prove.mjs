// npm run prove: the package as npm publishes it, installed into empty projects by all package managers and several versions
// of Node, from empty caches and without a compiler; used by import and by require, and on a real kernel.
// npm run prove -- --quick: by the oldest and the newest npm, Yarn 1 and pnpm 9; that is what CI runs.
// npm run prove -- yarn: by those whose names have that in them.

import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { binaries, checkBinaries } from './binaries.mjs';
import { nodeBinary } from './cached.mjs';
import { installers, quickInstallers } from './installers.mjs';
import { installScripts, localRegistry } from './local-registry.mjs';
import { prebuildAll } from './prebuild.mjs';
import { headers, root, setup } from './setup.mjs';

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean' } },
  allowPositionals: true,
});
const { quick } = values;
const folder = join(root, 'build/prove');
const { version, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
/** What has to be loaded where the package is installed. */
const binary = '/dmabuf/prebuilds/linux-x64/dmabuf.glibc.node';
/** What package managers say of packages that want to run something, and of those that they let; pnpm, of anything odd. */
const spoken =
  /\bbuild scripts\b|\binstall[ -]?scripts?\b|node-gyp|\bgyp\b|allow-scripts|lifecycle|^[^\w\n]*WARN\s/im;
const say = (text) => process.stderr.write(`prove: ${text}\n`);
/** What was proven, by its titles: the table at the end. */
const table = new Map();

function proven(title, what) {
  say(`${title}: ${what}`);
  table.set(title, [...(table.get(title) ?? []), what]);
}

function failed({ message }) {
  say(`FAILED: ${message}`);
  table.set('FAILED', [...(table.get('FAILED') ?? []), message.split('\n', 1)[0]]);
  process.exitCode = 1;
}

/** The end of a program, and all that it has said. The registry answers meanwhile. */
function end([command, ...args], options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let output = '';
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part) => {
      output += part;
      text += part;
    });
    child.stderr.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    child
      .once('error', reject)
      .once('close', (code, signal) => resolve({ status: signal ?? code, output, text }));
  });
}

async function run(what, command, options) {
  const { status, output, text } = await end(command, options);
  if (status !== 0) throw new Error(`${what}: exit ${status}\n${text}`);
  return { output, text };
}

/** What a user's program does first. The addon must be the package's own binary for this C library. */
const firstUse = `
  import { readFileSync } from 'node:fs';
  import { createRequire } from 'node:module';
  import { createMemfd, DmaBufError, DmaHeap } from 'dmabuf';
  const require = createRequire(import.meta.url);
  if (require('dmabuf').DmaHeap !== DmaHeap) throw new Error('import and require differ');
  for (const part of ['frame', 'inspect', 'metrics', 'vm']) await import('dmabuf/' + part), require('dmabuf/' + part);
  DmaHeap.list();
  createMemfd(4096);
  try {
    DmaHeap.open('no such heap');
  } catch (error) {
    if (!(error instanceof DmaBufError)) throw error;
  }
  const loaded = /\\S+dmabuf[\\w.]*\\.node$/m.exec(readFileSync('/proc/self/maps', 'utf8'))[0];
  const { text } = (await (await import('dmabuf/inspect')).examine()).find(({ subject }) => subject === 'addon');
  if (text !== 'loaded from ' + loaded) throw new Error('the doctor says ' + text);
  console.log(loaded);
`;

/** A PATH with Node and nothing else, a home without settings, and where the registry is. */
function environment(project, registry) {
  const passedOn = /^(NODE_EXTRA_CA_CERTS|https?_proxy|no_proxy)$/i;
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => passedOn.test(name))),
    PATH: join(project, 'bin'),
    HOME: join(project, 'home'),
    npm_config_registry: registry,
    npm_config_update_notifier: 'false',
    CI: '1',
  };
}

async function install(installer, registry) {
  const { title, first, again, inPlace, flags = [], configure, user = '.', local = false } = installer;
  const node = await nodeBinary(installer.node, say);
  const program = await installer.program(say);
  const manager = typeof program === 'string' ? [program] : [node, ...program];
  const project = join(folder, title.replace(/\W+/g, '-'));
  mkdirSync(join(project, 'bin'), { recursive: true });
  symlinkSync(node, join(project, 'bin/node'));
  writeFileSync(join(project, 'package.json'), '{ "name": "project", "version": "1.0.0", "private": true }');
  writeFileSync(join(project, '.npmrc'), `registry=${registry}\n`);
  configure?.(project, registry);
  const options = { cwd: project, env: environment(project, registry) };

  const at = join(project, user);
  async function step(what, args) {
    const { text } = await run(`${title}: ${what}`, [...manager, ...args], options);
    if (spoken.test(text)) throw new Error(`${title}: ${what} speaks of scripts\n${text}`);
    const use = [...flags, '--input-type=module', '-e', firstUse];
    const where = { ...options, cwd: at };
    const { output } = await run(`${title}: first use after ${what}`, [node, ...use], where);
    const loaded = output.trim();
    const expected = local ? join(root, 'build/Release/dmabuf.node') : binary;
    if (!loaded.endsWith(expected) || !(local || loaded.startsWith(project))) {
      throw new Error(`${title}: ${loaded} was loaded after ${what}`);
    }
    proven(title, what);
  }

  await step('first install', first);
  for (const [what, args] of Object.entries(again)) {
    rmSync(join(project, 'node_modules'), { recursive: true, force: true });
    rmSync(join(project, '.yarn/unplugged'), { recursive: true, force: true });
    await step(what, args);
  }
  for (const [what, args] of Object.entries(inPlace)) await step(what, args);
  // What some of them put there is a shell's program, which needs more than a PATH with Node.
  const withShell = { ...options, env: { ...options.env, PATH: `${options.env.PATH}:/usr/bin:/bin` } };
  const bin = join(project, 'node_modules/.bin/dmabuf');
  const command = [...(existsSync(bin) ? [bin] : [...manager, 'dmabuf']), '--version'];
  const { output } = await run(`${title}: the command`, command, withShell);
  if (output.trim() !== version) throw new Error(`${title}: the command says ${output}`);
  proven(title, 'dmabuf --version');
  copyFileSync(join(root, 'dist/examples/demo.js'), join(at, 'demo.mjs'));
  return { title, project, at, node, flags };
}

/** The demo of each project, one after the other in one guest. */
async function runDemos(installed, kernel) {
  const { runInVm } = await import('dmabuf/vm');
  const steps = installed.map(
    // By NODE_OPTIONS the demo's child gets the flags, too.
    ({ title, at, node, flags }) =>
      `echo; echo "=== ${title}"; cd '${at}' && NODE_OPTIONS='${flags.join(' ')}' '${node}' demo.mjs || ` +
      `{ echo "=== ${title} failed"; exit 1; }`,
  );
  const { exitCode } = await runInVm({
    command: ['sh', '-c', steps.join('\n')],
    kernel,
    timeout: 900_000,
    progress: (text) => say(`the demo on Linux ${kernel}: ${text}`),
  });
  if (exitCode !== 0) throw new Error(`the demo on Linux ${kernel} ended with ${exitCode}`);
  for (const { title } of installed) proven(title, `the demo on Linux ${kernel}`);
}

/** The one command that the README gives. */
async function buildFromSource({ project }) {
  const [, nodedir] = headers();
  const env = { ...process.env, ...(nodedir && { npm_config_nodedir: nodedir }) };
  const command =
    'npm install --no-save node-gyp node-addon-api && npx node-gyp rebuild -C node_modules/dmabuf/native';
  await run('building from source', ['sh', '-c', command], { cwd: project, env });
  const use = [process.execPath, '--input-type=module', '-e', firstUse];
  const loaded = (await run('first use', use, { cwd: project })).output.trim();
  if (!loaded.endsWith('dmabuf/native/build/Release/dmabuf.node')) {
    throw new Error(`${loaded} was loaded, not what was built`);
  }
  proven('npx node-gyp rebuild', 'built from source where the package is installed, and loaded');
}

/** A clone without binaries, or with old ones, must not become a package, by any package manager. */
async function checkRefusals() {
  const clone = join(folder, 'clone');
  await run('git clone', ['git', 'clone', '--quiet', '--local', root, clone]);
  async function refused(what, reason) {
    const { status, text } = await end(['npm', 'pack'], { cwd: clone });
    const reasons = binaries.map(({ file }) => `prepack: refused: ${file} ${reason}`);
    if (status === 0 || !reasons.every((line) => text.includes(line))) {
      throw new Error(`a clone ${what} was packed, or refused for something else\n${text}`);
    }
    proven('npm pack', `a clone ${what} is refused`);
  }
  await refused('without binaries', 'is missing');
  for (const { file } of binaries) {
    mkdirSync(dirname(join(clone, file)), { recursive: true });
    copyFileSync(join(root, file), join(clone, file));
    utimesSync(join(clone, file), 0, 0);
  }
  await refused('with old binaries', 'is older than its sources');
  rmSync(clone, { recursive: true });
}

/** What users have: all that is run, read and built from; no test, no source map, nothing to build in the root. */
function checkContents({ title, project }) {
  const installed = join(project, 'node_modules/dmabuf');
  const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
  const needed = [
    ...Object.values(exports).flatMap((entry) => Object.values(typeof entry === 'string' ? [entry] : entry)),
    ...['LICENSE', 'THIRD-PARTY-NOTICES.txt', 'README.md', 'native/binding.gyp'],
    ...binaries.map(({ file }) => file),
  ];
  const wrong = needed
    .filter((file) => !existsSync(join(installed, file)))
    .map((file) => `${file} is not there`);
  for (const file of files) {
    if (
      /(^|\/)tests?(\/|$)|^(?!examples\/).*\.test\.|\.[cm]?[jt]s\.map$|\.tsbuildinfo$|^[^/]*\.gypi?$/.test(
        file,
      )
    )
      wrong.push(`${file} is there`);
    if (
      /\.[cm]?[jt]s$/.test(file) &&
      readFileSync(join(installed, file), 'utf8').includes('sourceMappingURL=')
    ) {
      wrong.push(`${file} names a source map`);
    }
  }
  if (wrong.length > 0) throw new Error(`what ${title} installed: ${wrong.join('; ')}`);
  proven('the package', `${files.length} files and folders, as they should be`);
}

/** By hand, from the clone: the registry must not be told that there is something to run on installing. */
async function publish(registry) {
  await run('npm publish', ['npm', 'publish', '--loglevel=error', ...registry.options], { cwd: root });
  const { scripts = {}, gypfile } = registry.published;
  const told = installScripts.filter((name) => name in scripts);
  if (told.length > 0 || gypfile) throw new Error(`published with ${told} and gypfile ${gypfile}`);
  proven('npm publish', 'nothing to run on installing');
}

const chosen = quick && positionals.length === 0 ? quickInstallers : installers;
const wanted = chosen.filter(
  ({ title }) => positionals.length === 0 || positionals.some((word) => title.toLowerCase().includes(word)),
);
if (wanted.length === 0) {
  say(`nobody is called ${positionals.join(', ')}: ${installers.map(({ title }) => title).join('; ')}`);
  process.exit(1);
}
let registry;
const installed = [];
try {
  setup();
  await prebuildAll();
  checkBinaries();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  if (existsSync(join(root, '.git'))) await checkRefusals();
  registry = await localRegistry();
  await publish(registry);
  for (const installer of wanted) {
    try {
      installed.push(await install(installer, registry.url));
    } catch (error) {
      failed(error); // What the others do is worth knowing, too.
    }
  }
  const npm = installed.find(({ project }) => existsSync(join(project, 'package-lock.json')));
  if (npm) checkContents(npm);
  const kernels = quick ? ['newest'] : ['stable', 'newest'];
  for (const kernel of installed.length > 0 ? kernels : []) await runDemos(installed, kernel);
  if (npm && !quick) await buildFromSource(npm);
} catch (error) {
  failed(error);
} finally {
  registry?.close();
}
const width = Math.max(...[...table.keys()].map((title) => title.length));
for (const [title, done] of table) console.log(`${title.padEnd(width)}  ${done.join(', ')}`);
