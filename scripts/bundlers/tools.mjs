// The tools that docs/bundlers.md has recipes for: by the titles of its sections, what is installed, and how what came out
// of it is run. The versions are pinned here and nowhere else.

const esbuild = 'esbuild@0.28.2';
const vite = 'vite@8.3.8';
const bun = '@oven/bun-linux-x64@1.4.5';
const next = ['next@16.4.6', 'react@19.3.1', 'react-dom@19.3.1'];

/** Of most, what comes out is in a folder `out`. */
const out = (...command) => ({ result: 'out', command });
/** Servers are asked for /use. */
const standalone = { packages: next, result: '.next/standalone', server: ['node', 'server.js'] };

export const tools = {
  webpack: {
    packages: ['webpack@5.112.2', 'webpack-cli@7.3.1'],
    ...out('node', 'program.cjs'),
    inGuest: true,
  },
  rspack: { packages: ['@rspack/core@2.3.3', '@rspack/cli@2.2.8'], ...out('node', 'program.cjs') },
  'Next.js': {
    packages: next,
    result: '.',
    server: ['node', 'node_modules/next/dist/bin/next', 'start', '--hostname', '127.0.0.1'],
  },
  'Next.js, standalone': standalone,
  'Next.js, standalone and external': standalone,
  esbuild: { packages: [esbuild], ...out('node', 'program.mjs'), inGuest: true },
  'esbuild to CommonJS': { packages: [esbuild], ...out('node', 'program.cjs') },
  'Node.js single executables': { packages: [esbuild, 'postject@1.0.0-alpha.6'], ...out('./program') },
  rollup: {
    packages: [
      'rollup@4.68.8',
      '@rollup/plugin-commonjs@29.0.3',
      '@rollup/plugin-json@6.1.0',
      '@rollup/plugin-node-resolve@16.0.3',
    ],
    ...out('node', 'program.mjs'),
  },
  Vite: { packages: [vite], ...out('node', 'program.mjs') },
  'Vite, a library': { packages: [vite], ...out('node', 'program.mjs') },
  ncc: { packages: ['@vercel/ncc@0.45.0'], ...out('node', 'index.mjs') },
  '@vercel/nft': { packages: ['@vercel/nft@1.11.5'], ...out('node', 'program.mjs') },
  "Bun's bundler": { packages: [bun], ...out('bun', 'program.mjs') },
  "Bun's single executables": { packages: [bun], ...out('./program') },
  // Nothing comes out of these: their recipes fail or do not.
  Jest: { packages: ['jest@30.5.2'] },
  Vitest: { packages: ['vitest@5.1.1'] },
  tsx: { packages: ['tsx@4.23.15'] },
};
