// The JavaScript of the npm package, out of what tsc made of lib/: few files, because each costs more to load than what is
// in it.

import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const entries = {
  index: 'dist/lib/index.js',
  inspect: 'dist/lib/inspect/index.js',
  metrics: 'dist/lib/metrics/index.js',
  vm: 'dist/lib/vm/index.js',
  cli: 'dist/lib/cli/main.js',
  // By itself: it runs in guests.
  'test-reporter': 'dist/lib/vm/test-reporter.js',
};

/** What is loaded together is one file. */
const files = [
  [/\/lib\/((fence|buffer|memory|channel)\/)?[^/]+\.js$/, 'core'],
  [/\/lib\/inspect\//, 'inspection'],
  [/\/lib\/metrics\//, 'registration'],
  [/\/lib\/vm\/(?!test-reporter)/, 'guest'],
  [/\/lib\/cli\/(buffers|options|output|sorting|text)\.js$/, 'tables'],
];

const declaration = (path) => path.replace(/\.js$/, '.d.ts');

/** Leaves only the declarations that users can reach: all that there are would be packed. */
const pruneDeclarations = {
  name: 'prune-declarations',
  closeBundle() {
    const reached = new Set(
      ['index', 'inspect', 'metrics', 'vm'].map((entry) => declaration(entries[entry])),
    );
    // What is added on the way is gone through too.
    for (const path of reached) {
      for (const [, to] of readFileSync(path, 'utf8').matchAll(/ from '(\..+)'/g)) {
        reached.add(declaration(join(path, '..', to)));
      }
    }
    for (const name of readdirSync('dist/lib', { recursive: true })) {
      const path = join('dist/lib', name);
      if (path.endsWith('.d.ts') && !reached.has(path)) rmSync(path);
    }
  },
};

// biome-ignore lint/style/noDefaultExport: rollup asks for it
export default {
  input: entries,
  plugins: [pruneDeclarations],
  external: (id) => !/^[./]/.test(id),
  output: {
    dir: 'dist/package',
    format: 'es',
    chunkFileNames: ({ moduleIds }) => (moduleIds[0].includes('/cli/') ? 'cli/[name].js' : '[name].js'),
    manualChunks: (id) => files.find(([pattern]) => pattern.test(id))?.[1],
    hoistTransitiveImports: false,
  },
};
