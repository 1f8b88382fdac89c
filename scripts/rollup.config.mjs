// The JavaScript and the declarations of the npm package, out of what tsc made of lib/: few files, because each costs more to
// load than what is in it.

import terser from '@rollup/plugin-terser';
import { dts } from 'rollup-plugin-dts';

const entries = {
  index: 'dist/lib/index.js',
  frame: 'dist/lib/frame/index.js',
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
  [/\/lib\/frame\/(frame-|received-|planes)/, 'core'],
  [/\/lib\/frame\//, 'picture'],
  [/\/lib\/inspect\//, 'inspection'],
  [/\/lib\/metrics\//, 'registration'],
  [/\/lib\/vm\/(?!test-reporter)/, 'guest'],
  [/\/lib\/cli\/(buffers|options|output|sorting|text)\.js$/, 'tables'],
];

const external = (id) => !/^[./]/.test(id);

/** The public declarations, and no others. */
const declarations = {
  input: Object.fromEntries(
    ['index', 'frame', 'inspect', 'metrics', 'vm'].map((name) => [
      name,
      entries[name].replace(/\.js$/, '.d.ts'),
    ]),
  ),
  plugins: [dts()],
  external,
  output: { dir: 'dist/package', format: 'es', chunkFileNames: '[name].ts' },
};

const code = {
  input: entries,
  external,
  // The comments alone go: they are 70 KB of what every import reads. Stacks keep their names and their lines of code.
  plugins: [terser({ compress: false, mangle: false, format: { beautify: true, comments: false } })],
  output: {
    dir: 'dist/package',
    format: 'es',
    chunkFileNames: ({ moduleIds }) => (moduleIds[0].includes('/cli/') ? 'cli/[name].js' : '[name].js'),
    manualChunks: (id) => files.find(([pattern]) => pattern.test(id))?.[1],
    hoistTransitiveImports: false,
  },
};

// biome-ignore lint/style/noDefaultExport: rollup asks for it
export default [code, declarations];
