// npm run release: everything but the publishing, into build/release: the tarball and its lists of components (SBOM).
// npm run release -- --publish: publishes it, with a statement of where it was built (provenance). npm can make that in a
// CI only, one that gives it an OIDC token.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { pack } from './pack.mjs';
import { binarySources, targets } from './prebuild.mjs';
import { root } from './setup.mjs';

/** Why a checkout cannot be released. */
export function refusals(folder, { publish = false } = {}) {
  const { version, repository } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const git = (...args) => execFileSync('git', args, { cwd: folder, encoding: 'utf8' });
  const reasons = [];
  if (git('status', '--porcelain') !== '') reasons.push('there are changes that are not committed');
  const headings = readFileSync(join(folder, 'CHANGELOG.md'), 'utf8').match(/^## .*/gm) ?? [];
  if (!headings.some((heading) => heading.split(/[\s[\]]+/).includes(version))) {
    reasons.push(`CHANGELOG.md has no section "## ${version}"`);
  }
  if (git('tag', '--list', `v${version}`) !== '') reasons.push(`the tag v${version} exists already`);
  if (publish && !repository) reasons.push('package.json names no repository, and provenance points there');
  return reasons;
}

/** Why the binaries cannot be released: all of them have to be younger than the last commit to what they are made from. */
export function staleBinaries(folder) {
  const args = ['log', '-1', '--format=%ct', '--', ...binarySources, 'package-lock.json'];
  const changed = Number(execFileSync('git', args, { cwd: folder, encoding: 'utf8' })) * 1000;
  return Object.keys(targets).flatMap((name) => {
    const file = join(folder, 'prebuilds', name);
    if (!existsSync(file)) return [`prebuilds/${name} is missing`];
    return statSync(file).mtimeMs < changed ? [`prebuilds/${name} is older than its sources`] : [];
  });
}

function refuseFor(reasons) {
  if (reasons.length === 0) return;
  for (const reason of reasons) console.error(`release: refused: ${reason}`);
  process.exit(1);
}

function run(command, ...args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { prebuilt, publish } = parseArgs({
    options: { prebuilt: { type: 'boolean' }, publish: { type: 'boolean' } },
  }).values;
  refuseFor(refusals(root, { publish }));
  if (prebuilt) run(process.execPath, 'scripts/setup.mjs');
  else run(process.execPath, 'scripts/prebuild.mjs');
  refuseFor(staleBinaries(root));

  const folder = join(root, 'build/release');
  rmSync(folder, { recursive: true, force: true });
  const { tarball, files, size, integrity } = pack(folder);
  for (const format of ['cyclonedx', 'spdx']) {
    const args = [
      'sbom',
      `--sbom-format=${format}`,
      '--sbom-type=library',
      '--package-lock-only',
      '--omit=dev',
    ];
    const text = execFileSync('npm', args, { cwd: root, encoding: 'utf8' });
    writeFileSync(tarball.replace(/tgz$/, `${format}.json`), text);
  }
  for (const file of files) console.log(`${String(file.size).padStart(8)}  ${file.path}`);
  console.log(`${tarball}\n${size} bytes, ${files.length} files, ${integrity}`);

  if (publish) run('npm', 'publish', tarball, '--provenance', '--access', 'public');
  else console.log('release: a dry run, nothing was published; with --publish, in a CI, it would be');
}
