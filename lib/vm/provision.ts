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
import { join } from 'node:path';
import { privateApt } from './apt.js';
import { installPackages } from './apt-install.js';
import { cacheFolder } from './cache-folder.js';
import { isStaticProgram } from './elf.js';
import { VmError } from './errors.js';
import { APPLETS } from './guest.js';
import { withLock } from './lock.js';
import { findProgram, run } from './process.js';
import { keepTelling } from './progress.js';
import { QEMU } from './qemu.js';

/** The programs a guest is made with. */
export interface Tools {
  qemu: string;
  /** A busybox that needs no libraries. */
  busybox: string;
  /** Words before a command that make the kernel end it when the process that starts it is gone. */
  endWithParent: readonly string[];
}

interface Steps {
  progress: (message: string) => void;
  signal: AbortSignal | undefined;
}

const QEMU_PACKAGE = 'qemu-system-x86';
const BUSYBOX_PACKAGE = 'busybox-static';

/** Finds the programs needed, and installs or fetches what is missing. */
export async function provideTools(steps: Steps): Promise<Tools> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new VmError(
      'ERR_DMABUF_VM_UNSUPPORTED',
      `the runner works on Linux on x64; this is ${process.platform} on ${process.arch}`,
    );
  }
  return {
    qemu: await provideQemu(steps),
    busybox: await provideBusybox(steps),
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

async function provideQemu(steps: Steps): Promise<string> {
  const find = (): string | undefined => findProgram(QEMU);
  const lock = { ...steps, what: `installing ${QEMU_PACKAGE}` };
  return (
    find() ?? withLock(join(cacheFolder(), '.lock'), lock, async () => find() ?? (await installQemu(steps)))
  );
}

async function installQemu(steps: Steps): Promise<string> {
  const problem = await installPackages([QEMU_PACKAGE], () => findProgram(QEMU) !== undefined, steps);
  const qemu = findProgram(QEMU);
  if (qemu !== undefined) return qemu;
  throw new VmError(
    'ERR_DMABUF_VM_TOOL',
    `QEMU (${QEMU}) is missing, and ${problem?.reason}; ${problem?.cure}`,
  );
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

async function fetchBusybox(target: string, { progress, signal }: Steps): Promise<string> {
  const work = mkdtempSync(`${target}-`);
  const stop = keepTelling(progress, `fetching ${BUSYBOX_PACKAGE}`);
  try {
    const apt = privateApt(join(work, 'apt'), { signal });
    await apt.run('apt-get', ['update']);
    const download = await apt.run('apt-get', ['download', BUSYBOX_PACKAGE]);
    const archive = readdirSync(apt.downloads).find((name) => name.endsWith('.deb'));
    if (archive === undefined) {
      throw new VmError(
        'ERR_DMABUF_VM_TOOL',
        `a static busybox is missing and could not be fetched:\n${download.stderr.trim()}\n` +
          `Run: sudo apt-get install ${BUSYBOX_PACKAGE}`,
      );
    }
    const unpacked = join(work, 'unpacked');
    mkdirSync(unpacked);
    await run('dpkg', ['-x', join(apt.downloads, archive), unpacked], { signal });
    const program = ['usr/bin/busybox', 'bin/busybox']
      .map((name) => join(unpacked, name))
      .find((path) => existsSync(path));
    if (program === undefined) {
      throw new VmError('ERR_DMABUF_VM_TOOL', `${archive} holds no busybox; install a static busybox`);
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
