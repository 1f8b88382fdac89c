import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { elfSection } from './elf.js';
import { VmError } from './errors.js';
import { findProgram, run } from './process.js';

/** One kernel module, ready to be handed to `insmod`. */
export interface KernelModule {
  name: string;
  /** The uncompressed ELF object. */
  data: Buffer;
}

/** The modules a kernel has: as files, and built in. */
export interface ModuleIndex {
  /** Module name to the file's path. */
  files: ReadonlyMap<string, string>;
  builtIn: ReadonlySet<string>;
  /** What it has not, and could be built for it. */
  buildable?: readonly string[];
}

/** A module's name: its file's name, with the dashes the kernel itself shows as underscores. */
export function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');
}

/** Lists the modules below a folder laid out as `/lib/modules/<release>`. */
export function indexModules(folder: string | undefined): ModuleIndex {
  const files = new Map<string, string>();
  const builtIn = new Set<string>();
  if (folder === undefined) return { files, builtIn };
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (/\.ko(\.\w+)?$/.test(path)) files.set(moduleName(path), join(folder, path));
  }
  try {
    for (const line of readFileSync(join(folder, 'modules.builtin'), 'utf8').split('\n')) {
      if (line !== '') builtIn.add(moduleName(line));
    }
  } catch {
    // without the list, whatever is no file is taken for built in or absent
  }
  return { files, builtIn };
}

/** The names a module declares in its `depends=` entry; the packages come without `modules.dep`. */
export function moduleDependencies(elf: Buffer): string[] {
  const info = elfSection(elf, '.modinfo');
  const entry = info
    ?.toString('latin1')
    .split('\0')
    .find((line) => line.startsWith('depends='));
  return (entry ?? 'depends=')
    .slice('depends='.length)
    .split(',')
    .filter((name) => name !== '')
    .map(moduleName);
}

/**
 * Reads modules and everything they depend on, in the order in which they must be loaded.
 * What is built in is left out; a name that is neither throws, or is left out when `optional`.
 */
export async function resolveModules(
  index: ModuleIndex,
  names: readonly string[],
  options: { optional?: boolean; read: (path: string) => Promise<Buffer> },
): Promise<KernelModule[]> {
  const loaded = new Map<string, KernelModule>();
  const visit = async (name: string, wantedBy: string | undefined): Promise<void> => {
    if (loaded.has(name)) return;
    const path = index.files.get(name);
    if (path === undefined) {
      if (index.builtIn.has(name) || options.optional === true) return;
      throw unknownModule(index, name, wantedBy);
    }
    const data = await options.read(path);
    for (const dependency of moduleDependencies(data)) await visit(dependency, name);
    loaded.set(name, { name, data });
  };
  for (const name of names) await visit(moduleName(name), undefined);
  return [...loaded.values()];
}

function unknownModule(index: ModuleIndex, name: string, wantedBy: string | undefined): VmError {
  const error = (message: string, hint?: string): VmError =>
    new VmError('ERR_DMABUF_VM_MODULE', message, { hint });
  if (wantedBy !== undefined) {
    return error(`module ${wantedBy} depends on ${name}, which this kernel does not have`);
  }
  if (index.files.size === 0) {
    const why = `module ${name} is asked for, but no modules were found for this kernel`;
    return error(why, 'Name their folder with --modules-dir');
  }
  const alike = [...index.files.keys()].filter((known) => known.includes(name)).sort();
  const advice = [
    ...(alike.length === 0 ? [] : [`Modules with similar names: ${alike.slice(0, 8).join(', ')}.`]),
    ...(index.buildable?.length ? [`Modules that can be built for it: ${index.buildable.join(', ')}`] : []),
  ];
  return error(`this kernel has no module ${name}`, advice.length === 0 ? undefined : advice.join(' '));
}

/** Reads a module's file, unpacked; busybox knows xz, which Debian's modules are packed with. */
export async function readModule(path: string, busybox: string): Promise<Buffer> {
  const raw = readFileSync(path);
  if (path.endsWith('.gz')) return gunzipSync(raw);
  if (path.endsWith('.xz')) return unpack(path, raw, busybox, 'xzcat');
  if (path.endsWith('.zst')) return unpack(path, raw, findProgram('zstd'), '-dcq');
  return raw;
}

async function unpack(
  path: string,
  raw: Buffer,
  program: string | undefined,
  argument: string,
): Promise<Buffer> {
  if (program === undefined) {
    throw new VmError('ERR_DMABUF_VM_TOOL', `unpacking ${path} needs zstd`, {
      hint: "Run 'sudo apt-get install zstd'",
    });
  }
  const result = await run(program, [argument], { input: raw });
  if (result.status === 0) return result.stdout;
  throw new VmError('ERR_DMABUF_VM_MODULE', `${program} could not unpack ${path}: ${result.stderr.trim()}`);
}
