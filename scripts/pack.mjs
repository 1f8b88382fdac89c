// What npm would publish: a tarball. Scripts are not run: prepack refuses what has no binaries, which is enough for a look at
// the types; who needs them has made them before.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './setup.mjs';

/** Packs the package into a folder: npm's account of it (files, size, integrity), and where it is. */
export function pack(folder) {
  mkdirSync(folder, { recursive: true });
  const args = ['pack', '--json', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder];
  const output = execFileSync('npm', args, { cwd: root, encoding: 'utf8' });
  // A list of packages until npm 11; from npm 12 on an object, by their names.
  const [packed] = Object.values(JSON.parse(output));
  return { ...packed, tarball: join(folder, packed.filename) };
}
