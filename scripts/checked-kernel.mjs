// A kernel that checks itself (kernel-config/checks.config), built once from the source that Debian publishes and kept in the
// user's cache. Needs setup() to have run.

import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { root } from './setup.mjs';

/** The last long-lived series with CONFIG_DMABUF_SYSFS_STATS: newer kernels have lost it. */
const series = '6.12';

/** Where Debian may have its source. */
const suites = [
  'trixie-security',
  'stable-security',
  'trixie',
  'stable',
  'bookworm-security',
  'oldstable-security',
];

const fragments = ['guest', 'dma-buf', 'checks'].map((name) => join(root, 'kernel-config', `${name}.config`));

/** Our exporter that fails as it is told; the rest of that folder the kernel has itself. */
const ownModule = 'dmabuf_test';

/** Programs, and the packages that have them. A header is found through the compiler. */
const tools = {
  gcc: 'gcc',
  make: 'make',
  flex: 'flex',
  bison: 'bison',
  bc: 'bc',
  lz4: 'lz4',
  pahole: 'pahole',
  tar: 'tar',
  xz: 'xz-utils',
  perl: 'perl',
  '<gelf.h>': 'libelf-dev',
};

/** Room for the source, what is compiled, and the packages. */
const neededBytes = 4e9;

const text = (path) => readFileSync(path, 'utf8');

/** Changes with all that decides what is built, but for the source. */
function keyOfConfiguration() {
  const hash = createHash('sha256').update(series);
  const sources = readdirSync(join(root, 'kernel-modules')).map((name) => join(root, 'kernel-modules', name));
  for (const path of [...fragments, ...sources.sort()]) hash.update(text(path));
  return hash.digest('hex').slice(0, 12);
}

/**
 * The folder of the kernel: from the cache, or built. With `isNewest`, Debian is asked whether its source has moved on since.
 * Progress is told in short sentences.
 */
export async function checkedKernel({ progress, signal, isNewest = false }) {
  const { cacheFolder, makeFolder } = await import('../dist/lib/vm/cache-folder.js');
  const { withLock } = await import('../dist/lib/vm/lock.js');
  const { newestFirst, Suites, withWorkFolder } = await import('../dist/lib/vm/debian-kernel.js');
  const { aptFolder, readAptSources } = await import('../dist/lib/vm/apt-sources.js');
  const folder = join(cacheFolder(), 'checked-kernels');
  const key = keyOfConfiguration();
  const find = () => {
    const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(`-${key}`)) : [];
    const [name] = newestFirst(names);
    return name && join(folder, name);
  };
  const known = isNewest ? undefined : find();
  if (known !== undefined) return known;

  makeFolder(folder);
  return withLock(join(folder, '.lock'), { what: 'building the kernel', progress, signal }, async () => {
    // Another process may have built it while this one waited.
    const built = isNewest ? undefined : find();
    if (built !== undefined) return built;
    await provideTools({ progress, signal });
    // What a process that was killed has left here is removed; the folder that counts appears at once, when all is in it.
    return withWorkFolder(folder, async (work) => {
      const steps = { progress, signal };
      const list = new Suites(work, readAptSources(await aptFolder()), steps);
      const source = await findSource(list);
      if (source === undefined) {
        const last = find();
        if (last !== undefined) {
          progress(`taking ${last}: Debian's source cannot be looked for`);
          return last;
        }
        throw new Error(
          [`no suite has linux-source-${series}, from which the kernel is built`, ...list.unread].join('; '),
        );
      }
      const target = join(folder, `${source.version}-${key}`);
      if (existsSync(target)) return target;
      const done = await build(source, { work, steps });
      renameSync(done, target);
      progress(`the kernel is ready in ${target}`);
      return target;
    });
  });
}

/** The source package, of the first suite that has it. */
async function findSource(list) {
  const name = `linux-source-${series}`;
  const { newestFirst } = await import('../dist/lib/vm/debian-kernel.js');
  for (const suite of suites) {
    const packages = await list.packages(suite);
    const versions = (packages?.list ?? '')
      .split('\n\n')
      .filter((stanza) => stanza.startsWith(`Package: ${name}\n`))
      .map((stanza) => /^Version: (.*)$/m.exec(stanza)?.[1]);
    const [version] = newestFirst(versions);
    if (version !== undefined) return { name, version, apt: packages.apt };
  }
  return undefined;
}

// ---------- what it is built with

async function missingTools() {
  const { findProgram, run } = await import('../dist/lib/vm/process.js');
  const missing = [];
  for (const [name, pack] of Object.entries(tools)) {
    const header = name.startsWith('<');
    const isThere = header
      ? findProgram('gcc') !== undefined &&
        (await run('gcc', ['-E', '-x', 'c', '-'], { input: Buffer.from(`#include ${name}\n`) })).status === 0
      : findProgram(name) !== undefined;
    if (!isThere) missing.push(pack);
  }
  return missing;
}

async function provideTools(steps) {
  const missing = await missingTools();
  if (missing.length === 0) return;
  const { installPackages } = await import('../dist/lib/vm/apt-install.js');
  const isThere = async () => (await missingTools()).length === 0;
  const problem = await installPackages(missing, isThere, steps);
  if (problem === undefined) return;
  throw new Error(`the kernel is built with ${missing.join(', ')}, and ${problem.reason}; ${problem.cure}`);
}

// ---------- building

async function build({ name, version, apt }, { work, steps }) {
  const { statfsSync } = await import('node:fs');
  const { fetchPackages } = await import('../dist/lib/vm/debian-kernel.js');
  const { run } = await import('../dist/lib/vm/process.js');
  const { keepTelling } = await import('../dist/lib/vm/progress.js');
  const { progress, signal } = steps;
  const { bavail, bsize } = statfsSync(work);
  if (bavail * bsize < neededBytes) {
    throw new Error(
      `building the kernel takes 4 GB in ${work}, which has ${Math.round((bavail * bsize) / 1e6)} MB free; set ` +
        'XDG_CACHE_HOME to a folder that has them',
    );
  }
  const [unpacked, source, out] = ['unpacked', 'linux', 'out'].map((folder) => join(work, folder));
  for (const folder of [unpacked, source, out]) mkdirSync(folder);
  await fetchPackages([`${name}=${version}`], unpacked, apt, steps);
  const stop = keepTelling(progress, `unpacking ${name} ${version}`);
  const archive = join(unpacked, 'usr/src', `${name}.tar.xz`);
  const tar = await run('tar', ['-I', 'xz -T0', '-xf', archive, '-C', source, '--strip-components=1'], {
    signal,
  }).finally(stop);
  if (tar.status !== 0) throw new Error(`${name} does not unpack: ${tar.stderr.trim()}`);

  const log = join(work, '..', 'build.log');
  writeFileSync(log, '');
  const make = (what, ...words) =>
    runMake(what, ['-C', source, `O=${out}`, ...words], { log, progress, signal });
  const wanted = fragments.map(text).join('\n');
  writeFileSync(join(out, 'fragments'), wanted);
  await make('configuring the kernel', `KCONFIG_ALLCONFIG=${join(out, 'fragments')}`, 'allnoconfig');
  refuseWhatWasNotTaken(wanted, text(join(out, '.config')));
  const jobs = `-j${availableParallelism()}`;
  const named = ['LOCALVERSION=-checked', 'KBUILD_BUILD_USER=dmabuf', 'KBUILD_BUILD_HOST=dmabuf'];
  await make('building the kernel', jobs, ...named, 'bzImage', 'modules');
  const modules = join(work, 'modules');
  cpSync(join(root, 'kernel-modules'), modules, { recursive: true });
  await make(`building ${ownModule}`, ...named, `M=${modules}`, 'CONFIG_DMABUF_TEST=m', 'modules');

  const done = mkdtempSync(join(work, 'done-'));
  mkdirSync(join(done, 'modules/kernel'), { recursive: true });
  copyFileSync(join(out, 'arch/x86/boot/bzImage'), join(done, 'vmlinuz'));
  copyFileSync(join(out, '.config'), join(done, 'config'));
  copyFileSync(join(out, 'modules.builtin'), join(done, 'modules/modules.builtin'));
  copyFileSync(join(modules, `${ownModule}.ko`), join(done, 'modules/kernel', `${ownModule}.ko`));
  return done;
}

/** Runs make with little priority; says how far it is, and where it fails, what the compiler said. */
async function runMake(what, words, { log, progress, signal }) {
  const { run } = await import('../dist/lib/vm/process.js');
  const started = Date.now();
  let steps = 0;
  progress(`${what} …`);
  const timer = setInterval(() => {
    const minutes = ((Date.now() - started) / 60_000).toFixed(1);
    progress(`${what}: still at it after ${minutes} minutes, ${steps} steps done`);
  }, 20_000);
  const onOutput = (chunk) => {
    writeFileSync(log, chunk, { flag: 'a' });
    steps += chunk.toString('latin1').match(/^ {2}(CC|AS|LD|AR) /gm)?.length ?? 0;
  };
  const make = run('nice', ['make', ...words], { env: { MAKEFLAGS: '' }, signal, onOutput });
  const { status, stdout, stderr } = await make.finally(() => clearInterval(timer));
  if (status === 0) return;
  const said = `${stdout}${stderr}`
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^ {2}[A-Z]+ /.test(line));
  const errors = said.filter((line) => /error|Error|not found|No space/.test(line)).slice(0, 15);
  const shown = (errors.length > 0 ? errors : said.slice(-15)).map((line) => `  | ${line}`).join('\n');
  throw new Error(`${what} failed; all that was said is in ${log}:\n${shown}`);
}

/** An option that another source does not know, or that lacks what it depends on, is dropped without a word. */
function refuseWhatWasNotTaken(wanted, config) {
  const lines = new Set(config.split('\n'));
  const lost = wanted
    .split('\n')
    .filter((line) => line.startsWith('CONFIG_'))
    .filter((line) => {
      const [, name, value] = /^(\w+)=(.*)$/.exec(line);
      return value === 'n' ? lines.has(`${name}=y`) : !lines.has(line);
    });
  if (lost.length > 0) throw new Error(`this kernel does not take ${lost.join(', ')}: change kernel-config/`);
}
