// What Debian's archive has for any architecture, unpacked into the cache: nothing of it is installed.

import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { cached } from '../cached.mjs';

/** Unpacks packages of Debian's into a folder. `names`: regular expressions; of each, the newest package that fits. */
export async function unpackDebian(folder, { suite, arch, names }, progress) {
  const { privateApt } = await import('../../dist/lib/vm/apt.js');
  const { aptFolder, formatSource, mirrorsFor, readAptSources } = await import(
    '../../dist/lib/vm/apt-sources.js'
  );
  const { newestFirst } = await import('../../dist/lib/vm/debian-kernel.js');
  const { run } = await import('../../dist/lib/vm/process.js');
  const [mirror] = mirrorsFor(suite, readAptSources(await aptFolder()));
  if (mirror === undefined) throw new Error(`this machine's apt sources name no mirror for ${suite}`);
  const apt = privateApt(join(folder, 'apt'), { sources: formatSource(mirror), architectures: [arch] });
  const call = async (program, ...args) => {
    const { status, stdout, stderr } = await apt.run(program, args);
    if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${stderr.trim()}`);
    return stdout.toString();
  };

  progress(`reading the package list of ${suite} for ${arch}`);
  await call('apt-get', 'update', '--error-on=any');
  const chosen = [];
  for (const name of names) {
    const lines = (await call('apt-cache', 'search', '--names-only', `^${name}$`)).trim().split('\n');
    const [newest] = newestFirst(lines.map((line) => line.split(' ', 1)[0]));
    if (newest === '') throw new Error(`${suite} has no package ${name} for ${arch}`);
    chosen.push(newest);
  }
  progress(`downloading ${chosen.join(', ')}`);
  await call('apt-get', 'download', ...chosen);

  mkdirSync(join(folder, 'usr/lib'), { recursive: true });
  // As on a machine of Debian's, where packages of older suites find the same places.
  if (!existsSync(join(folder, 'lib'))) symlinkSync('usr/lib', join(folder, 'lib'));
  for (const archive of readdirSync(apt.downloads)) {
    // Not dpkg -x, which would replace the link by a folder.
    const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --directory "$2"';
    const args = ['-c', unpack, 'sh', join(apt.downloads, archive), folder];
    const { status, stderr } = await run('sh', args);
    if (status !== 0) throw new Error(`${archive} could not be unpacked: ${stderr.trim()}`);
  }
  for (const part of ['apt', 'etc', 'usr/share'])
    rmSync(join(folder, part), { recursive: true, force: true });
}

/** A folder with packages of Debian's, fetched once. */
export function debianPackages(what, progress) {
  const title = what.names.map((name) => name.replace(/\\|\[0-9\]\+/g, '')).join('_');
  return cached(`debian/${what.suite}-${what.arch}_${title}`, progress, (folder) =>
    unpackDebian(folder, what, progress),
  );
}
