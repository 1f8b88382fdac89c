// What Debian's archive has for any architecture, unpacked into the cache: nothing of it is installed.

import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { cached } from '../cached.mjs';

/** A folder with packages of Debian's in it. `names`: regular expressions; of each, the newest package that fits. */
export function debianPackages({ suite, arch, names }, progress) {
  const title = names.map((name) => name.replace(/[^a-z]+/g, '-').replace(/-$/, '')).join('_');
  return cached(`debian/${suite}-${arch}_${title}`, progress, async (folder) => {
    const { privateApt } = await import('../../dist/lib/vm/apt.js');
    const { formatSource, mirrorsFor, readAptSources } = await import('../../dist/lib/vm/apt-sources.js');
    const { newestFirst } = await import('../../dist/lib/vm/debian-kernel.js');
    const { run } = await import('../../dist/lib/vm/process.js');
    const [mirror] = mirrorsFor(suite, readAptSources('/etc/apt'));
    if (mirror === undefined) throw new Error(`this machine's apt sources name no mirror for ${suite}`);
    const apt = privateApt(join(folder, 'apt'), { sources: formatSource(mirror) });
    const call = async (program, ...args) => {
      const settings = ['-o', `APT::Architecture=${arch}`, '-o', `APT::Architectures::=${arch}`];
      const { status, stdout, stderr } = await apt.run(program, [...settings, ...args]);
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
    symlinkSync('usr/lib', join(folder, 'lib'));
    for (const archive of readdirSync(apt.downloads)) {
      // Not dpkg -x, which would replace the link by a folder.
      const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --directory "$2"';
      const args = ['-c', unpack, 'sh', join(apt.downloads, archive), folder];
      const { status, stderr } = await run('sh', args);
      if (status !== 0) throw new Error(`${archive} could not be unpacked: ${stderr.trim()}`);
    }
    rmSync(join(folder, 'apt'), { recursive: true });
    for (const part of ['usr/share', 'etc'])
      if (existsSync(join(folder, part))) rmSync(join(folder, part), { recursive: true });
  });
}
