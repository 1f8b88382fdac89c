import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheFolder } from './cache-folder.js';
import { VmError } from './errors.js';
import { withLock } from './lock.js';
import { findProgram, run } from './process.js';
import { keepTelling } from './progress.js';

interface Steps {
  progress: (message: string) => void;
  signal?: AbortSignal | undefined;
}

/** A folder of the cache that `fill(folder)` has filled: whole, or not there at all. */
export async function cached(
  name: string,
  steps: Steps,
  fill: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(cacheFolder(), name);
  if (existsSync(folder)) return folder;
  await withLock(`${folder}.lock`, { ...steps, what: `fetching ${name}` }, async () => {
    if (existsSync(folder)) return;
    const work = mkdtempSync(join(dirname(folder), 'unfinished-'));
    try {
      await fill(work);
      renameSync(work, folder);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
  return folder;
}

/** A folder whose node_modules has packages of the npm registry, with their dependencies: `name@version`, or several of them. */
export function npmPackage(what: string, steps: Steps): Promise<string> {
  return cached(`npm/${what.replace(/[^\w.@-]/g, '-')}`, steps, async (folder) => {
    const npm = findProgram('npm');
    if (npm === undefined) {
      throw new VmError(
        'ERR_DMABUF_VM_TOOL',
        `${what} is fetched with npm, which this machine does not have`,
      );
    }
    const stop = keepTelling(steps.progress, `fetching ${what} from the npm registry`);
    // --force: npm refuses packages for another machine, which QEMU runs.
    const args = ['install', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', '--force'];
    const { status, stderr } = await run(npm, [...args, ...what.split(' ')], {
      signal: steps.signal,
    }).finally(stop);
    if (status !== 0) {
      throw new VmError('ERR_DMABUF_VM_TOOL', `npm could not install ${what}: ${stderr.trim()}`);
    }
  });
}

/** The binary of a major version of Node.js for Linux, which the npm registry carries. */
export async function nodeBinary(major: number | string, steps: Steps, arch = 'x64'): Promise<string> {
  const name = `node-linux-${arch}`;
  return join(await npmPackage(`${name}@${major}`, steps), 'node_modules', name, 'bin/node');
}
