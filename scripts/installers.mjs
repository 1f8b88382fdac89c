// The package managers that the package is installed by: where each comes from, and what it is told. `first` installs into
// an empty project, `again` without what was installed, `inPlace` over it; `configure` writes what the project has of its
// own, `user` is the folder that uses the package, `flags` is what Node needs for that, `local` is true where the clone
// itself is installed, with the binary that was built there.

import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { npmPackage } from './cached.mjs';
import { root } from './setup.mjs';

/** A package manager that is a program of Node's. */
async function program(what, path, progress) {
  return [join(await npmPackage(what, progress), 'node_modules', path)];
}

const npm = (major, node, what = '') => ({
  title: `npm ${major}, Node ${node}${what}`,
  node,
  program: (progress) => program(`npm@${major}`, 'npm/bin/npm-cli.js', progress),
  first: ['install', 'dmabuf'],
  again: { ci: ['ci'], 'install with a lockfile': ['install'] },
  inPlace: { rebuild: ['rebuild'] },
});

const yarn4 = (linker) => ({
  title: `Yarn 4, ${linker}, scripts on`,
  node: '22',
  program: (progress) => program('@yarnpkg/cli-dist@4', '@yarnpkg/cli-dist/bin/yarn.js', progress),
  configure(project, registry) {
    const settings = {
      nodeLinker: linker,
      npmRegistryServer: registry,
      unsafeHttpWhitelist: ['127.0.0.1'],
      enableScripts: true,
      enableGlobalCache: false,
      enableTelemetry: false,
      npmMinimalAgeGate: 0,
    };
    // JSON is YAML, too.
    writeFileSync(join(project, '.yarnrc.yml'), JSON.stringify(settings));
    writeFileSync(join(project, 'yarn.lock'), '');
  },
  first: ['add', 'dmabuf'],
  again: { 'install --immutable': ['install', '--immutable'] },
  inPlace: { rebuild: ['rebuild'] },
  // What has Node find packages that are not in node_modules.
  flags: linker === 'pnp' ? ['--require', './.pnp.cjs', '--experimental-loader', './.pnp.loader.mjs'] : [],
});

const pnpm = (major, linker) => ({
  title: `pnpm ${major}, ${linker}`,
  node: '22',
  program: (progress) => program(`pnpm@${major}`, 'pnpm/bin/pnpm.cjs', progress),
  configure: (project) => appendFileSync(join(project, '.npmrc'), `node-linker=${linker}\n`),
  first: ['add', 'dmabuf'],
  again: { 'install --frozen-lockfile': ['install', '--frozen-lockfile'] },
  inPlace: { rebuild: ['rebuild'] },
});

/** What projects do that are not one empty folder. */
const otherWays = ['10', '11', '12'].flatMap((major) => {
  const usual = npm(major, '24');
  const without = ['--ignore-scripts', '--omit=optional'];
  return [
    {
      ...npm(major, '24', ', a workspace'),
      configure(project) {
        const user = { name: 'user', version: '1.0.0' };
        mkdirSync(join(project, 'packages/user'), { recursive: true });
        writeFileSync(join(project, 'packages/user/package.json'), JSON.stringify(user));
        const all = { name: 'all', version: '1.0.0', private: true, workspaces: ['packages/*'] };
        writeFileSync(join(project, 'package.json'), JSON.stringify(all));
      },
      first: ['install', 'dmabuf', '--workspace=user'],
      user: 'packages/user',
    },
    {
      ...npm(major, '24', `, ${without.join(' ')}`),
      first: [...usual.first, ...without],
      again: { ci: ['ci', ...without] },
      inPlace: {},
    },
    // npm rebuild would run what the clone's own tools for development have to run.
    { ...npm(major, '24', ", a clone's folder"), first: ['install', root], inPlace: {}, local: true },
  ];
});

/** npm 12 refuses Node 20. */
const npms = ['10', '11', '12'].flatMap((major) =>
  ['20', '22', '24', '26']
    .filter((node) => !(major === '12' && node === '20'))
    .map((node) => npm(major, node)),
);

export const installers = [
  ...npms,
  ...otherWays,
  {
    title: 'Yarn 1',
    node: '22',
    program: (progress) => program('yarn@1', 'yarn/bin/yarn.js', progress),
    first: ['add', 'dmabuf', '--non-interactive'],
    again: { 'install --frozen-lockfile': ['install', '--frozen-lockfile', '--non-interactive'] },
    inPlace: {},
  },
  yarn4('node-modules'),
  yarn4('pnp'),
  pnpm('9', 'isolated'),
  pnpm('9', 'hoisted'),
  pnpm('10', 'isolated'),
  pnpm('10', 'hoisted'),
  {
    title: 'Bun',
    node: '22',
    async program(progress) {
      const name = '@oven/bun-linux-x64';
      return join(await npmPackage(`${name}@1.4.5`, progress), 'node_modules', name, 'bin/bun');
    },
    first: ['add', 'dmabuf'],
    again: { 'install --frozen-lockfile': ['install', '--frozen-lockfile'] },
    inPlace: {},
  },
];

/** The oldest and the newest npm, and those that make up scripts for what looks as if it were to be built. */
export const quickInstallers = [
  npms.at(0),
  npms.at(-1),
  ...installers.filter(({ title }) => /^(Yarn 1|pnpm 9, isolated)$/.test(title)),
];
