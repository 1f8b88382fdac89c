// npm run docs: the reference of the four entry points, made of their doc comments, as HTML in build/api.
// npm run docs -- --check: makes nothing, but says what is missing, as npm run check does.
//
// It fails when something exported has no doc comment, refers to a type that is not exported, or links to nothing.

import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const { values: options } = parseArgs({ options: { check: { type: 'boolean' } } });
setup();
const { Application } = await import('typedoc');

const folder = join(root, 'build/api');
const app = await Application.bootstrap({
  name: 'dmabuf',
  entryPoints: [
    'lib/index.ts',
    'lib/frame/index.ts',
    'lib/inspect/index.ts',
    'lib/metrics/index.ts',
    'lib/vm/index.ts',
  ].map((path) => join(root, path)),
  tsconfig: join(root, 'tsconfig.lib.json'),
  readme: join(root, 'README.md'),
  projectDocuments: [join(root, 'docs/*.md')],
  out: folder,
  // Links to lines of the source would need to know where the repository is published.
  disableSources: true,
  highlightLanguages: ['js', 'ts', 'sh', 'json', 'yaml', 'ini', 'python'],
  excludeExternals: true,
  excludeInternal: true,
  excludePrivate: true,
  sort: ['source-order'],
  hideGenerator: true,
  validation: { notDocumented: true, notExported: true, invalidLink: true, invalidPath: false },
  // Parameters that need more than their name and type have a @param; those that do not would only repeat it.
  requiredToBeDocumented: [
    'Module',
    'Class',
    'Interface',
    'TypeAlias',
    'Variable',
    'Function',
    'Constructor',
    'Method',
    'Property',
    'Accessor',
  ],
  treatWarningsAsErrors: true,
  treatValidationWarningsAsErrors: true,
  logLevel: 'Warn',
});

const project = await app.convert();
if (project !== undefined) {
  app.validate(project);
  if (!options.check) await app.generateOutputs(project);
}
if (project === undefined || app.logger.hasErrors() || app.logger.hasWarnings()) process.exitCode = 1;
else if (!options.check)
  process.stderr.write(`docs: ${relative(process.cwd(), join(folder, 'index.html'))}\n`);
