// The JavaScript of the npm package, out of what tsc made of lib/: few files, because each costs more to load than what is
// in it.

const entries = {
  index: 'dist/lib/index.js',
  inspect: 'dist/lib/inspect/index.js',
  metrics: 'dist/lib/metrics/index.js',
  vm: 'dist/lib/vm/index.js',
  cli: 'dist/lib/cli/main.js',
};

/** What is loaded together is one file. */
const files = [
  [/\/lib\/([^/]+|inspect\/fdinfo)\.js$/, 'core'],
  [/\/lib\/inspect\//, 'inspection'],
  [/\/lib\/metrics\//, 'registration'],
  [/\/lib\/vm\//, 'guest'],
  [/\/lib\/cli\/(buffers|options|output|sorting|text)\.js$/, 'tables'],
];

// biome-ignore lint/style/noDefaultExport: rollup asks for it
export default {
  input: entries,
  external: (id) => !/^[./]/.test(id),
  output: {
    dir: 'dist/package',
    format: 'es',
    chunkFileNames: ({ moduleIds }) => (moduleIds[0].includes('/cli/') ? 'cli/[name].js' : '[name].js'),
    manualChunks: (id) => files.find(([pattern]) => pattern.test(id))?.[1],
    hoistTransitiveImports: false,
  },
};
