// npm runs this before `npm pack` and `npm publish`: a package without its binaries, or with old ones, is refused.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { binaries, checkBinaries } from './binaries.mjs';
import { binarySources } from './prebuild.mjs';
import { changed, root } from './setup.mjs';

const made = [...binaries.map(({ file }) => [file, binarySources]), ['dist/.compiled', ['lib']]];
const reasons = made.flatMap(([file, sources]) => {
  if (!existsSync(join(root, file))) return [`${file} is missing`];
  return changed(file) < changed(...sources) ? [`${file} is older than its sources`] : [];
});
for (const reason of reasons) console.error(`prepack: refused: ${reason}`);
if (reasons.length > 0) {
  console.error('prepack: npm run prebuild makes what is missing or old; npm run release makes the package');
  process.exit(1);
}
checkBinaries();
