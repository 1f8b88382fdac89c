import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { privateApt } from './apt.js';
import { installPackages } from './apt-install.js';
import { ARCHITECTURES, type Arch } from './arch.js';
import { cacheFolder } from './cache-folder.js';
import { isStaticProgram } from './elf.js';
import { VmError } from './errors.js';
import { APPLETS } from './guest.js';
import { withLock } from './lock.js';
import { findProgram, run } from './process.js';
import { keepTelling } from './progress.js';

/** The programs a guest is made with. */
export interface Tools {
  qemu: string;
  /** A busybox that needs no libraries. */
  busybox: string;
  /** The same for the guest's processor. */
  guestBusybox: string;
  /** Words before a command that make the kernel end it when the process that starts it is gone. */
  endWithParent: readonly string[];
}

interface Steps {
  progress: (message: string) => void;
  signal: AbortSignal | undefined;
}

const BUSYBOX_PACKAGE = 'busybox-static';

/** Finds the programs needed for guests with such a processor, and installs or fetches what is missing. */
export async function provideTools(steps: Steps, arch: Arch = 'x64'): Promise<Tools> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new VmError(
      'ERR_DMABUF_VM_UNSUPPORTED',
      `the runner works on Linux on x64; this is ${process.platform} on ${process.arch}`,
    );
  }
  const qemu = await provideQemu(arch, steps);
  const busybox = await provideBusybox(steps);
  return {
    qemu,
    busybox,
    guestBusybox: arch === 'x64' ? busybox : await provideForeignBusybox(arch, steps),
    endWithParent: await endWithParent(),
  };
}

/** Without it (an old or a minimal setpriv) a guest is left to notice by itself that its host has gone. */
async function endWithParent(): Promise<string[]> {
  const setpriv = findProgram('setpriv');
  if (setpriv === undefined) return [];
  const words = [setpriv, '--pdeathsig', 'KILL'];
  const test = await run(setpriv, [...words.slice(1), 'true']);
  return test.status === 0 ? words : [];
}

async function provideQemu(arch: Arch, steps: Steps): Promise<string> {
  const find = (): string | undefined => findProgram(ARCHITECTURES[arch].qemu);
  const lock = { ...steps, what: `installing ${ARCHITECTURES[arch].qemuPackage}` };
  return (
    find() ??
    withLock(join(cacheFolder(), '.lock'), lock, async () => find() ?? (await installQemu(arch, steps)))
  );
}

async function installQemu(arch: Arch, steps: Steps): Promise<string> {
  const { qemu: program, qemuPackage } = ARCHITECTURES[arch];
  const problem = await installPackages([qemuPackage], () => findProgram(program) !== undefined, steps);
  const qemu = findProgram(program);
  if (qemu !== undefined) return qemu;
  throw new VmError('ERR_DMABUF_VM_TOOL', `QEMU (${program}) is missing, and ${problem?.reason}`, {
    hint: problem?.cure,
  });
}

/**
 * Finds a static busybox. Debian's is taken out of its package instead of being installed, which would replace
 * the dynamic one; that needs no root either.
 */
async function provideBusybox(steps: Steps): Promise<string> {
  const folder = join(cacheFolder(), BUSYBOX_PACKAGE);
  const cached = join(folder, 'busybox');
  const find = async (): Promise<string | undefined> => {
    for (const path of [findProgram('busybox'), cached]) {
      if (path !== undefined && (await isSuitable(path))) return path;
    }
    return undefined;
  };
  const found = await find();
  if (found !== undefined) return found;
  return withLock(
    join(folder, '.lock'),
    { ...steps, what: `fetching ${BUSYBOX_PACKAGE}` },
    async () => (await find()) ?? (await fetchBusybox(cached, steps)),
  );
}

/** One that this machine cannot run. */
async function provideForeignBusybox(arch: Arch, steps: Steps): Promise<string> {
  const cached = join(cacheFolder(), `${BUSYBOX_PACKAGE}-${arch}`, 'busybox');
  if (existsSync(cached)) return cached;
  return withLock(
    join(dirname(cached), '.lock'),
    { ...steps, what: `fetching ${BUSYBOX_PACKAGE}` },
    async () => (existsSync(cached) ? cached : await fetchBusybox(cached, steps, ARCHITECTURES[arch].debian)),
  );
}

async function isSuitable(path: string): Promise<boolean> {
  try {
    if (!isStaticProgram(readFileSync(path))) return false;
  } catch {
    return false;
  }
  const list = await run(path, ['--list']);
  const applets = new Set(list.stdout.toString().split('\n'));
  return [...APPLETS, 'xzcat'].every((applet) => applets.has(applet));
}

async function fetchBusybox(
  target: string,
  { progress, signal }: Steps,
  architecture?: string,
): Promise<string> {
  const work = mkdtempSync(`${target}-`);
  const stop = keepTelling(progress, `fetching ${BUSYBOX_PACKAGE}`);
  try {
    const architectures = architecture === undefined ? [] : [architecture];
    const apt = privateApt(join(work, 'apt'), { architectures, signal });
    await apt.run('apt-get', ['update']);
    const download = await apt.run('apt-get', ['download', BUSYBOX_PACKAGE]);
    const archive = readdirSync(apt.downloads).find((name) => name.endsWith('.deb'));
    if (archive === undefined) {
      throw new VmError(
        'ERR_DMABUF_VM_TOOL',
        `a static busybox${architecture === undefined ? '' : ` for ${architecture}`} is missing and could not be fetched:\n` +
          download.stderr.trim(),
        { hint: architecture === undefined ? `Run 'sudo apt-get install ${BUSYBOX_PACKAGE}'` : undefined },
      );
    }
    const unpacked = join(work, 'unpacked');
    mkdirSync(unpacked);
    await run('dpkg', ['-x', join(apt.downloads, archive), unpacked], { signal });
    const program = ['usr/bin/busybox', 'bin/busybox']
      .map((name) => join(unpacked, name))
      .find((path) => existsSync(path));
    if (program === undefined) {
      throw new VmError('ERR_DMABUF_VM_TOOL', `${archive} holds no busybox`, {
        hint: 'Install a static busybox',
      });
    }
    const unfinished = join(work, 'busybox');
    copyFileSync(program, unfinished);
    renameSync(unfinished, target);
    return target;
  } finally {
    stop();
    rmSync(work, { recursive: true, force: true });
  }
}
