import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  elfHeaderSize,
  endOf,
  endOfSegment,
  isElf,
  machineOf,
  programHeaderSize,
  programHeaders,
  sectionHeaders,
} from './elf.js';
import { DmaBufError } from './errors.js';
import { textOf } from './text-file.js';

type DlopenError = Error & { code?: string };

/** What happened, and what to do about it. */
type Reason = readonly [what: string, hint?: string];

const guide = 'The guide docs/bundlers.md in the package has more';

/** The folder of the package, two above that of this file; undefined if a bundler has put the code somewhere else. */
export function packageFolder(): string | undefined {
  const url = import.meta.url as string | undefined;
  if (!url?.startsWith('file:')) return undefined;
  const folder = dirname(dirname(dirname(fileURLToPath(url))));
  try {
    const { name } = JSON.parse(textOf(join(folder, 'package.json')) ?? '{}') as { name?: string };
    return name === 'dmabuf' ? folder : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the file exists, and may be inspected. */
function maySee(path: string): boolean {
  try {
    return existsSync(path);
  } catch {
    return false;
  }
}

/** ELF's numbers of the processors for which the package has binaries. */
const machines: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

/** Whether a binary is for another one of these processors: an emulated guest sees what was built for its host. */
function isForOther(path: string): boolean {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const header = Buffer.alloc(elfHeaderSize);
      readSync(fd, header, 0, header.length, 0);
      const machine = machineOf(header);
      return isElf(header) && Object.values(machines).includes(machine) && machine !== machines[process.arch];
    } finally {
      closeSync(fd);
    }
  } catch {
    return false; // The error of loading it will say why.
  }
}

/** A binary that was built in a clone, or in the installed package. One for another processor is ignored. */
function ownBuild(folder: string): string[] | undefined {
  const places = [
    ['build', 'Release', 'dmabuf.node'],
    ['native', 'build', 'Release', 'dmabuf.node'],
  ];
  return places.find((place) => {
    const path = join(folder, ...place);
    return maySee(path) && !isForOther(path);
  });
}

/** What Node.js reports about itself, which takes long. */
function libcOfReport(): 'glibc' | 'musl' {
  try {
    const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
    return header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
  } catch {
    return 'glibc'; // As on most systems.
  }
}

/** The first bytes of every program name the loader of its C library. */
function libc(): 'glibc' | 'musl' {
  let fd: number | undefined;
  try {
    fd = openSync('/proc/self/exe', 'r');
    const start = Buffer.alloc(4096);
    readSync(fd, start, 0, start.length, 0);
    return start.includes('/ld-musl-') ? 'musl' : 'glibc';
  } catch {
    return libcOfReport(); // The permission model does not allow it to be read.
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** The package's binaries. Bundlers search for URLs like these, and copy the files that they name. */
function prebuilt(arch: 'x64' | 'arm64'): string {
  const musl = libc() === 'musl';
  if (arch === 'x64') {
    return fileURLToPath(
      musl
        ? new URL('../../prebuilds/linux-x64/dmabuf.musl.node', import.meta.url)
        : new URL('../../prebuilds/linux-x64/dmabuf.glibc.node', import.meta.url),
    );
  }
  return fileURLToPath(
    musl
      ? new URL('../../prebuilds/linux-arm64/dmabuf.musl.node', import.meta.url)
      : new URL('../../prebuilds/linux-arm64/dmabuf.glibc.node', import.meta.url),
  );
}

/**
 * The binary next to a bundle, or to a single executable: users copy `prebuilds` there. So does ncc, which writes
 * JavaScript into the file that the code names.
 */
function besideBundle(named: string | undefined): string | undefined {
  const own = import.meta.url as string | undefined;
  const files = [named, own?.startsWith('file:') ? fileURLToPath(own) : undefined, process.execPath];
  for (const file of files) {
    if (file === undefined) continue;
    const path = join(dirname(file), 'prebuilds', `linux-${process.arch}`, `dmabuf.${libc()}.node`);
    if (maySee(path)) return path;
  }
  return undefined;
}

/** Whether the file exists. A file that the runtime does not allow to be inspected is distinguished from a missing one. */
function isThere(path: string): boolean {
  if (process.permission?.has('fs.read', path) === false) {
    throw refusal([
      `Node.js's permission model does not allow ${path} to be read`,
      `Start Node.js with --allow-fs-read='${dirname(path)}/*'`,
    ]);
  }
  try {
    return existsSync(path);
  } catch (cause) {
    throw refusal([`Deno does not allow ${path} to be read`, 'Start Deno with --allow-read'], cause);
  }
}

function open(path: string): unknown {
  const module = { exports: {} };
  process.dlopen(module, path);
  return Object.assign(module.exports, { path }); // as `bindings` does
}

function fromSource(folder: string | undefined): string {
  const native = folder === undefined ? 'node_modules/dmabuf/native' : join(folder, 'native');
  return (
    'Build it from source, with g++, make and python3: npm install --no-save node-gyp node-addon-api && ' +
    `npx node-gyp rebuild -C '${native.replaceAll("'", `'\\''`)}'`
  );
}

/** The mount that a file is on, if nothing on it may be executed. */
function noexecMount(path: string): string | undefined {
  try {
    const file = realpathSync(path);
    let mount: string[] = [];
    for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
      const fields = line.split(' ');
      const point = fields[4]?.replace(/\\([0-7]{3})/g, (_, octal) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      );
      if (point === undefined || !`${file}/`.startsWith(point === '/' ? point : `${point}/`)) continue;
      // Of two mounts at the same point, the later one is visible.
      if (point.length >= (mount[0]?.length ?? 0)) mount = [point, fields[5] as string];
    }
    return mount[1]?.split(',').includes('noexec') ? mount[0] : undefined;
  } catch {
    return undefined;
  }
}

/** Why an existing file could not be loaded. */
function whyNotLoaded({ code, message }: DlopenError, path: string): Reason {
  if (code === 'ERR_DLOPEN_DISABLED') {
    return process.permission === undefined
      ? ['addons are disabled', 'Start Node.js, or the worker, without --no-addons, also in NODE_OPTIONS']
      : ["Node.js's permission model does not allow addons", 'Start Node.js with --allow-addons'];
  }
  if (/allow-ffi/.test(message)) return ['Deno does not allow native code', 'Start Deno with --allow-ffi'];
  const mount = noexecMount(path);
  if (mount !== undefined) {
    return [
      `${path} may not be executed, since ${mount} is mounted noexec`,
      `Remount it, as root: mount -o remount,exec '${mount}'; or copy the file to where programs are allowed, and set ` +
        'DMABUF_BINARY to the path of the copy',
    ];
  }
  if (/Permission denied/.test(message)) {
    return [`${path} may not be read`, "Make the package's files readable for this user: chmod -R a+rX"];
  }
  if (/GLIBC(XX)?_[\d.]+' not found|Error relocating/.test(message)) {
    return [
      `the C or C++ library is older than the one that ${path} was made with: ${message}`,
      fromSource(packageFolder()),
    ];
  }
  if (/(libc\.so|ld-linux|ld-musl|libc\.musl)[^ :]*:/.test(message)) {
    return [
      `${path} is made for the other C library (${message})`,
      'Set DMABUF_BINARY to the path of the right one, dmabuf.glibc.node or dmabuf.musl.node in prebuilds, or delete the one that was built for the other',
    ];
  }
  const missing = /(\S+): cannot open shared object file|Error loading shared library (\S+):/.exec(message);
  const library = missing?.[1] ?? missing?.[2];
  // glibc's loader skips files for other processors, and gives the same error for them.
  if (library !== undefined && library !== path) {
    return [
      `${path} needs ${library}, which does not exist`,
      'Install that library, or build the addon again',
    ];
  }
  if (library === path || /ELF|Exec format|file too short|cannot read file data/.test(message)) {
    return [
      `${path} is damaged or made for another processor than ${process.arch} (${message})`,
      'Install the package again; what was built from source has to be built again',
    ];
  }
  return [`${path} could not be loaded: ${message}`];
}

/** Why the package's binary is missing. */
function whyMissing(path: string | undefined): Reason {
  const folder = packageFolder();
  if (folder !== undefined) {
    return [
      `the package's binary is missing: ${path}`,
      `Install the package again, or copy ${join(folder, 'prebuilds')} along with it. ${guide}`,
    ];
  }
  return [
    'the code of dmabuf was bundled without its binary',
    "Keep the package out of the bundle (external), or copy the package's folder prebuilds next to it, or set DMABUF_BINARY " +
      `to the path of a copy of prebuilds/linux-${process.arch}/dmabuf.${libc()}.node. ${guide}`,
  ];
}

function refusal([what, hint]: Reason, cause?: unknown): DmaBufError {
  const code = 'ERR_DMABUF_UNSUPPORTED_PLATFORM';
  return new DmaBufError(`${code}: ${what}`, { code, hint, cause });
}

/**
 * How many bytes an ELF file has according to its headers; undefined for files of another kind, which dlopen(3) refuses.
 * dlopen(3) maps what the headers say, and dies of SIGBUS if the file is shorter.
 */
function lengthInHeaders(fd: number): number | undefined {
  const header = Buffer.alloc(elfHeaderSize);
  if (readSync(fd, header, 0, header.length, 0) < header.length || !isElf(header)) return undefined;
  const segments = programHeaders(header);
  let length = Math.max(endOf(segments), endOf(sectionHeaders(header)));
  if (segments.entrySize !== programHeaderSize) return length; // The loader refuses it.
  const table = Buffer.alloc(programHeaderSize * segments.entries);
  if (readSync(fd, table, 0, table.length, segments.offset) < table.length) return length;
  for (let at = 0; at < table.length; at += programHeaderSize) {
    length = Math.max(length, endOfSegment(table, at));
  }
  return length;
}

/** A fault of the file that would block dlopen(3) or end the process; undefined if there is none. */
function whyNotToLoad(path: string): Reason | undefined {
  let fd: number | undefined;
  try {
    const stats = statSync(path);
    if (!stats.isFile()) return [`${path} is not a regular file`];
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const length = stats.size === 0 ? 1 : lengthInHeaders(fd);
    if (length === undefined || length <= stats.size) return undefined;
    const what = stats.size === 0 ? 'is empty' : `was cut off: it has ${stats.size} of ${length} bytes`;
    return [
      `${path} ${what}`,
      'Make sure that the disk is not full, and install the package again; what was built from source has to be built again',
    ];
  } catch {
    return undefined; // It may not be read: the error of dlopen(3) will say why.
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** The function that native.ts calls first; the addons of other packages do not have it. */
const ownFunctions = ['setErrorFactory', 'setClosersTimer', 'waitOnThread', 'setWorker', 'openHeap'];

function isOwn(addon: unknown): boolean {
  const functions = addon as Record<string, unknown> | undefined;
  return ownFunctions.every((name) => typeof functions?.[name] === 'function');
}

/** Loads an existing file; an error explains why it cannot be loaded. */
function openOrExplain(path: string, load: (path: string) => unknown = open): unknown {
  const reason = whyNotToLoad(path);
  if (reason !== undefined) throw refusal(reason);
  let addon: unknown;
  try {
    addon = load(path);
  } catch (cause) {
    throw refusal(whyNotLoaded(cause as DlopenError, path), cause);
  }
  if (isOwn(addon)) return addon;
  throw refusal([
    `${path} is not the addon of this version of dmabuf`,
    'Set DMABUF_BINARY to the path of one, or unset it; or install the package again',
  ]);
}

function loadPrebuilt(): unknown {
  if (process.platform === 'android') {
    throw refusal([
      "Android's kernels have dma-bufs, but the package has no binary for Android's C library",
      'In Termux, use a Node.js for Linux, in proot-distro. This is untested, and Android lets few apps open /dev/dma_heap',
    ]);
  }
  if (process.arch !== 'x64' && process.arch !== 'arm64') {
    throw refusal([`the package has no binary for linux-${process.arch}`, fromSource(packageFolder())]);
  }
  let path: string | undefined;
  let cause: unknown;
  try {
    path = prebuilt(process.arch);
  } catch (error) {
    cause = error; // CommonJS that a bundler made has no import.meta.url.
  }
  if (packageFolder() === undefined) path = besideBundle(path) ?? path;
  if (path === undefined || !isThere(path)) throw refusal(whyMissing(path), cause);
  return openOrExplain(path);
}

/** What was built from source, through `bindings`; undefined if a bundler has left that package out. */
function loadOwnBuild(folder: string, place: readonly string[]): unknown {
  const require = createRequire(import.meta.url);
  let bindings: (options: object) => unknown;
  try {
    bindings = require('bindings') as typeof bindings;
  } catch {
    return undefined;
  }
  return openOrExplain(join(folder, ...place), () =>
    bindings({ bindings: 'dmabuf', module_root: folder, try: [['module_root', ...place]] }),
  );
}

/** The binary that the user has chosen instead of the package's own. */
function chosenBinary(): string | undefined {
  try {
    return process.env.DMABUF_BINARY;
  } catch {
    return undefined; // Deno without --allow-env
  }
}

function loadAny(): unknown {
  const chosen = chosenBinary();
  if (chosen) {
    const path = resolve(chosen);
    if (!isThere(path)) throw refusal([`DMABUF_BINARY names ${path}, which does not exist`]);
    return openOrExplain(path);
  }
  const folder = packageFolder();
  const place = folder === undefined ? undefined : ownBuild(folder);
  return (folder && place && loadOwnBuild(folder, place)) ?? loadPrebuilt();
}

/** Loads the addon, or throws an error that names the cause. */
export function loadAddon(): unknown {
  if (process.platform === 'linux' || process.platform === 'android') return loadAny();
  throw refusal([`dma-bufs exist on Linux only, and this is ${process.platform}`]);
}
