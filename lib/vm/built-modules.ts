import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { packageFolder } from '../load-addon.js';
import { cacheFolder } from './cache-folder.js';
import { withWorkFolder } from './debian-kernel.js';
import { VmError } from './errors.js';
import { type BuildTree, isDebianRelease, makeBuildTree } from './kernel-build.js';
import type { Kernel } from './kernels.js';
import { withLock } from './lock.js';
import { indexModules, type ModuleIndex, moduleName } from './modules.js';
import { keepTelling } from './progress.js';

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/** Modules that are built together: of drivers that need each other. */
interface Group {
  modules: readonly string[];
  /** As in kernel-modules/Kbuild. */
  options: readonly string[];
  /** What the kernel has to be built with, where Debian's are not always. */
  needs?: string;
  /** What is built in where the kernel was built with this. */
  builtInWith?: string;
}

const HEAPS = 'CONFIG_DMABUF_HEAPS';

/** What all heaps need where the kernel was built without {@link HEAPS}. */
const HEAPS_OPTION = 'DMA_HEAP_MODULE';

/** What Debian's kernels lack, and can be built for them. */
const GROUPS: readonly Group[] = [
  {
    modules: ['dma_heap', 'system_heap'],
    options: [HEAPS_OPTION, 'SYSTEM_HEAP_MODULE'],
    builtInWith: HEAPS,
  },
  { modules: ['cma_heap'], options: ['DMABUF_HEAPS_CMA'], needs: 'CONFIG_DMA_CMA' },
  { modules: ['sw_sync'], options: ['SW_SYNC'] },
  { modules: ['vkms'], options: ['DRM_VKMS'] },
  {
    modules: ['v4l2_mem2mem', 'vim2m', 'vicodec'],
    options: ['V4L2_MEM2MEM_DEV', 'VIDEO_VIM2M', 'VIDEO_VICODEC'],
  },
  { modules: ['dmabuf_test'], options: ['DMABUF_TEST'] },
];

const ALL_OPTIONS = GROUPS.flatMap(({ options }) => options);

const KERNEL_SOURCES = [
  'drivers/dma-buf/*',
  'drivers/gpu/drm/vkms/*',
  'drivers/media/v4l2-core/v4l2-mem2mem.c',
  'drivers/media/test-drivers/vim2m.c',
  'drivers/media/test-drivers/vicodec/*',
];

/** What can be built for a kernel, whether it has it as a module or not. */
export function buildableModules(kernel: Kernel): string[] {
  return groupsFor(kernel).flatMap(({ modules }) => modules);
}

function groupsFor(kernel: Kernel): Group[] {
  return GROUPS.filter((group) => obstacle(group, kernel) === undefined && !isBuiltIn(group, kernel));
}

/**
 * Adds to a kernel's modules those of `wanted` that its packages lack and that can be built: they are taken from the cache,
 * or built, once for each version of the kernel. All that can be built is built then, since fetching takes longest.
 */
export async function withBuiltModules(
  index: ModuleIndex,
  wanted: readonly string[],
  kernel: Kernel,
  steps: Steps,
): Promise<ModuleIndex> {
  const own = GROUPS.filter((group) => isBuiltIn(group, kernel)).flatMap(({ modules }) => modules);
  const builtIn = new Set([...index.builtIn, ...own]);
  const lacks = (name: string): boolean => !index.files.has(name) && !builtIn.has(name);
  const groups = wanted
    .map(moduleName)
    .filter(lacks)
    .flatMap((name) => GROUPS.filter(({ modules }) => modules.includes(name)));
  if (groups.length === 0) return { ...index, builtIn, buildable: buildableModules(kernel).filter(lacks) };
  const folder = await provide([...new Set(groups)], kernel, steps);
  // What the kernel has itself is not replaced.
  return { ...index, builtIn, files: new Map([...indexModules(folder).files, ...index.files]) };
}

/** The folder of a kernel's built modules, with these in it. */
async function provide(groups: readonly Group[], kernel: Kernel, steps: Steps): Promise<string> {
  const { release } = kernel;
  for (const group of groups) check(group, kernel);
  const own = ownSources();
  const folder = join(cacheFolder(), 'modules', `${release}-${keyOf(own)}`);
  const missing = (all: readonly Group[]): Group[] =>
    all.filter((group) => !existsSync(placeOf(group, folder)));
  if (missing(groups).length === 0) return folder;
  const lock = { ...steps, what: 'building modules' };
  await withLock(join(cacheFolder(), 'modules/.lock'), lock, async () => {
    // Another process may have built them while this one waited.
    if (missing(groups).length === 0) return;
    mkdirSync(folder, { recursive: true });
    await withWorkFolder(dirname(folder), async (work) => {
      const tree = await makeBuildTree(release, { own, kernel: KERNEL_SOURCES }, work, steps);
      const needsHeaps = isBuiltWith(HEAPS, kernel) === false;
      for (const group of missing(groupsFor(kernel))) {
        const options = [...group.options, ...(needsHeaps ? [HEAPS_OPTION] : [])];
        await build({ ...group, options }, { tree, work, folder, isWanted: groups.includes(group) }, steps);
      }
    });
  });
  return folder;
}

/** Our own sources, which travel with the package. */
function ownSources(): string {
  const root = packageFolder();
  if (root !== undefined) return join(root, 'kernel-modules');
  throw new VmError(
    'ERR_DMABUF_VM_BUILD',
    "kernel modules are built from the package's folder kernel-modules, which a bundle of its code does not find",
    { hint: 'Install the package dmabuf, and import it from there' },
  );
}

/** Changes with all that is in what is built, but for the kernel. */
function keyOf(own: string): string {
  const hash = createHash('sha256').update(JSON.stringify([GROUPS, KERNEL_SOURCES]));
  for (const name of readdirSync(own).sort()) hash.update(`${name}\n`).update(readFileSync(join(own, name)));
  return hash.digest('hex').slice(0, 12);
}

const placeOf = ({ modules }: Group, folder: string): string => join(folder, modules.join('+'));

function check(group: Group, kernel: Kernel): void {
  const reason = obstacle(group, kernel);
  if (reason === undefined) return;
  throw new VmError(
    'ERR_DMABUF_VM_MODULE',
    `this kernel has no module ${group.modules.join(', ')}, and ${reason}`,
  );
}

/** Why modules cannot be built for a kernel, if that is known beforehand. */
function obstacle({ needs }: Group, kernel: Kernel): string | undefined {
  const { release } = kernel;
  if (!isDebianRelease(release))
    return `modules can be built for Debian's kernels only, which ${release} is not`;
  if (needs === undefined || isBuiltWith(needs, kernel) !== false) return undefined;
  return `none can be built for it: ${release} was built without ${needs}`;
}

function isBuiltIn({ builtInWith }: Group, kernel: Kernel): boolean {
  return builtInWith !== undefined && isBuiltWith(builtInWith, kernel) === true;
}

/** Whether an option of the kernel's configuration is `y`; undefined where there is no configuration. */
function isBuiltWith(option: string, { release, image }: Kernel): boolean | undefined {
  const config = [join(dirname(image), 'config'), `/boot/config-${release}`].find((path) => existsSync(path));
  return config === undefined ? undefined : readFileSync(config, 'utf8').includes(`\n${option}=y\n`);
}

/** How much of what the compiler said stands in the error. */
const SHOWN_LINES = 15;

async function build(
  group: Group,
  { tree, work, folder, isWanted }: { tree: BuildTree; work: string; folder: string; isWanted: boolean },
  { progress }: Steps,
): Promise<void> {
  const name = group.modules.join(', ');
  const stop = keepTelling(progress, `building ${name}`);
  const words = ALL_OPTIONS.map((option) => `CONFIG_${option}=${group.options.includes(option) ? 'm' : 'n'}`);
  const { status, stdout, stderr } = await tree.make(words).finally(stop);
  const built = indexModules(tree.folder).files;
  const paths = group.modules.flatMap((module) => built.get(module) ?? []);
  if (status === 0 && paths.length === group.modules.length) {
    const done = mkdtempSync(join(work, 'done-'));
    for (const [at, path] of paths.entries()) renameSync(path, join(done, `${group.modules[at]}.ko`));
    renameSync(done, placeOf(group, folder));
    return;
  }
  for (const path of paths) rmSync(path);
  const log = `${placeOf(group, folder)}.log`;
  writeFileSync(log, `${stdout}${stderr}`);
  const reason = `${name} could not be built; all that was said is in ${log}`;
  if (!isWanted) {
    progress(reason);
    return;
  }
  const end = (stderr.trim() || stdout.toString().trim()).split('\n').slice(-SHOWN_LINES);
  throw new VmError('ERR_DMABUF_VM_BUILD', `${reason}:\n${end.map((line) => `  | ${line}`).join('\n')}`);
}
