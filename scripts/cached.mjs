// What is fetched once into the user's cache folder and used from there by every checkout.

import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A folder of the cache that `fill(folder)` has filled: whole, or not there at all. Needs setup() to have run. */
export async function cached(name, progress, fill) {
  const { cacheFolder } = await import('../dist/lib/vm/cache-folder.js');
  const { withLock } = await import('../dist/lib/vm/lock.js');
  const folder = join(cacheFolder(), name);
  if (existsSync(folder)) return folder;
  await withLock(`${folder}.lock`, { what: `fetching ${name}`, progress }, async () => {
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

/** A folder whose node_modules has packages of the npm registry, with their dependencies: 'name@version', or several of them. */
export function npmPackage(what, progress) {
  return cached(`npm/${what.replace(/[^\w.@-]/g, '-')}`, progress, async (folder) => {
    const { run } = await import('../dist/lib/vm/process.js');
    progress(`fetching ${what} from the npm registry`);
    // --force: npm refuses packages for another machine, which QEMU runs.
    const args = ['install', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', '--force'];
    const { status, stderr } = await run('npm', [...args, ...what.split(' ')]);
    if (status !== 0) throw new Error(`npm could not install ${what}: ${stderr.trim()}`);
  });
}

/** The binary of a major version of Node, which the npm registry carries for linux-x64 and others. */
export async function nodeBinary(major, progress, arch = 'x64') {
  const name = `node-linux-${arch}`;
  return join(await npmPackage(`${name}@${major}`, progress), 'node_modules', name, 'bin/node');
}
