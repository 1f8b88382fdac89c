// What tests load and run in a guest with another processor: made here, by Zig's compiler, and laid over what was built for this
// machine.

import { copyFileSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { compilers, fetchZig, prebuildAll, targets } from '../prebuild.mjs';
import { build, root, testAddons } from '../setup.mjs';

/** The folder that lies over that of the checkout. */
const folderOf = (arch) => join(root, 'build', arch);

/** Makes the addon, the tests' own and the tests' programs for a processor, where they are older than their sources. */
export async function prepareBinaries(arch, progress) {
  await prebuildAll([`${arch}/dmabuf.glibc`]);
  const folder = folderOf(arch);
  const binary = `linux-${arch}/dmabuf.glibc.node`;
  const own = join(folder, 'build/Release/dmabuf.node');
  mkdirSync(dirname(own), { recursive: true });
  copyFileSync(join(root, 'prebuilds', binary), own);

  const { zig } = await fetchZig(progress);
  const target = targets[binary];
  for (const { title, name, files } of testAddons) {
    const place = join('build', arch, 'test', name);
    mkdirSync(join(root, place), { recursive: true });
    for (const file of files) {
      rmSync(join(root, place, file), { force: true });
      symlinkSync(join(root, 'test', name, file), join(root, place, file));
    }
    build(
      `${title} for ${arch}`,
      place,
      name,
      files.map((file) => join('test', name, file)),
      { ...compilers(zig, target), npm_config_arch: arch },
    );
  }
  const { compileAll } = await import('../../dist/test/support/compiled.js');
  compileAll({ arch, compiler: [zig, 'cc', '-target', target, '-O2'] });
}

/** Words before a command that lay the addons over those of the checkout, in a guest. */
export function layBinaries(arch) {
  const files = [
    'build/Release/dmabuf.node',
    ...testAddons.map(({ name }) => `test/${name}/build/Release/${name}.node`),
  ];
  const script = `for file in ${files.join(' ')}; do cp '${folderOf(arch)}'/$file $file || exit; done; exec "$@"`;
  return ['sh', '-c', script, 'sh'];
}
