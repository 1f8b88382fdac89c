// The documents' code blocks that need no kernel, their commands, links and lists. The JavaScript runs in
// test/kernel/package/once/documents.test.ts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { CommanderError } from 'commander';
import { parse as parseYaml } from 'yaml';
import { createProgram } from '../../lib/cli/program.js';
import { SUBCOMMANDS } from '../../lib/cli/subcommands.js';
import {
  allBlocks,
  type Block,
  blocksIn,
  documents,
  linksOf,
  notInGuest,
  prose,
  runByTools,
  textOf,
} from '../support/documents.js';
import { packageRoot } from '../support/programs.js';
import { commandsOf } from '../support/shell-lines.js';

const here = (path: string): string => join(packageRoot, path);
const manifest = JSON.parse(readFileSync(here('package.json'), 'utf8')) as {
  scripts: Record<string, string>;
  man: string[];
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
};

/** `dmabuf …`: the real command parses it, and what it would run in turn. */
async function checkDmabuf(args: readonly string[]): Promise<void> {
  const name = args[0];
  const isMain = name === undefined || name.startsWith('-');
  const subcommand = SUBCOMMANDS.find((known) => known.name === name);
  if (!isMain) assert.ok(subcommand, `there is no dmabuf ${name}`);
  const command = subcommand === undefined ? createProgram() : await subcommand.load();
  command.action(() => {}).configureOutput({ writeOut() {}, writeErr() {} });
  try {
    await command.parseAsync(args.slice(isMain ? 0 : 1), { from: 'user' });
  } catch (error) {
    assert.ok(error instanceof CommanderError, error as Error);
    assert.ok(['commander.helpDisplayed', 'commander.version'].includes(error.code), error.message);
  }
  if ((name === 'vm' || name === 'diff') && command.args.length > 0) await checkCommand(command.args);
}

/** What `node:util` would be told of a script's options, read from its source. */
function optionsOf(source: string): Record<string, { type: 'string' | 'boolean'; short?: string }> {
  const options: Record<string, { type: 'string' | 'boolean' }> = {};
  for (const [, name, type] of source.matchAll(/'?([\w-]+)'?: \{ type: '(string|boolean)'/g)) {
    options[name as string] = { type: type as 'string' | 'boolean' };
  }
  return options;
}

/** `npm run name -- args`: the script exists, has these options, and files to choose by these names. */
async function checkScript(name: string, args: readonly string[]): Promise<void> {
  const script = manifest.scripts[name];
  assert.ok(script, `package.json has no script ${name}`);
  if (script.endsWith('cli.js vm')) return checkDmabuf(['vm', ...args]);
  if (args.length === 0) return;
  const file = script.split(' ').find((word) => word.endsWith('.mjs'));
  assert.ok(file, `${name} takes no arguments that could be checked`);
  const options = optionsOf(readFileSync(here(file), 'utf8'));
  const { positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const tests = readdirSync(here('test'), { recursive: true, encoding: 'utf8' });
  const installers = readFileSync(here('scripts/installers.mjs'), 'utf8').toLowerCase();
  for (const filter of positionals) {
    if (name === 'prove') {
      assert.ok(installers.includes(filter), `nothing that installs has ${filter} in its name`);
      continue;
    }
    assert.ok(
      tests.some((test) => test.endsWith('.test.ts') && test.includes(filter)),
      `no test has ${filter} in its path`,
    );
  }
}

async function checkNpm([subcommand, ...args]: readonly string[]): Promise<void> {
  if (subcommand === 'install') {
    const packages = args.filter((word) => !word.startsWith('-') && word !== 'dmabuf');
    const unknown = packages.filter(
      (name) => !(name in manifest.dependencies) && !(name in manifest.devDependencies),
    );
    assert.deepEqual(unknown, [], 'installs packages that are not known here');
    return;
  }
  // npm's own, which need no words of ours.
  if (['ci', 'rebuild', 'pack'].includes(subcommand ?? '') && args.length === 0) return;
  const name = subcommand === 'run' ? args[0] : subcommand;
  assert.ok(subcommand === 'run' || subcommand === 'test', `npm ${subcommand} is not known here`);
  const end = args.indexOf('--');
  await checkScript(name as string, end < 0 ? [] : args.slice(end + 1));
}

/** A program of ours: it exists, and its source knows the options. */
function checkNode(args: readonly string[]): void {
  const [first = '', ...rest] = args;
  if (first === '--test') return;
  assert.match(first, /^dist\/(.*)\.js$/, `node ${first} is not known here`);
  const source = readFileSync(here(first.replace(/^dist\/(.*)\.js$/, '$1.ts')), 'utf8');
  for (const option of rest.filter((word) => word.startsWith('--'))) {
    assert.match(source, new RegExp(`\\b${option.slice(2)}\\b`), `${first} has no option ${option}`);
  }
}

/** Programs of the system that a document may name without more: what they do is not ours to check. */
const system = new Set(['cat', 'cd']);

async function checkCommand([program = '', ...args]: readonly string[]): Promise<void> {
  if (program === 'sudo') return checkCommand(args);
  if (program === 'npx' && args[0] === 'dmabuf') return checkCommand(args);
  if (program === 'npx') return assert.ok(existsSync(here(`node_modules/.bin/${args[0]}`)), `npx ${args[0]}`);
  if (program === 'dmabuf') return checkDmabuf(args);
  if (program === 'npm') return checkNpm(args);
  if (program === 'node') return checkNode(args);
  if (program === 'man') return assert.ok(manifest.man.includes(`man/${args[0]}.1`), `man ${args[0]}`);
  if (program === 'sh' && args[0] === '-c') return checkShell(args[1] ?? '');
  assert.ok(system.has(program), `nothing here checks the command ${program}`);
}

async function checkShell(script: string): Promise<void> {
  const commands = commandsOf(script);
  assert.ok(commands.length > 0, 'there is no command');
  for (const command of commands) await checkCommand(command);
}

/** A file of systemd's: sections and assignments, and what it starts. */
async function checkUnit(code: string): Promise<void> {
  for (const line of code.split('\n')) {
    assert.match(line, /^(|#.*|\[(Unit|Service|Install)\]|[A-Z]\w+=.+)$/, line);
    const started = /^Exec\w+=(.*)$/.exec(line)?.[1]?.replace(/^\S*\/(env )?(dmabuf)?/, '$2');
    if (started !== undefined) await checkShell(started);
  }
}

/** Rules of udev: comparisons, then assignments; devices of ours. */
function checkRules(code: string): void {
  const rules = code.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  assert.ok(rules.length > 0, 'there is no rule');
  for (const rule of rules) {
    assert.match(rule, /^(SUBSYSTEM=="dma_heap"|KERNEL=="udmabuf")(, (GROUP="\w+"|MODE="0\d{3}"))+$/, rule);
  }
}

/** The output of a command: its columns are the real ones. */
function checkTable(header: string): boolean {
  const titles = header.trim().toLowerCase().split(/\s+/);
  return ['ps', 'ls', 'heaps'].some((name) => {
    const { stdout } = spawnSync(process.execPath, [here('dist/package/cli.js'), name, '--csv'], {
      encoding: 'utf8',
    });
    const columns = (stdout.split('\n')[0] ?? '').trim().split(',');
    return titles.length > 1 && titles.every((title, index) => columns[index] === title);
  });
}

/** Compiles blocks as modules of a project that has this package installed. */
function compile(blocks: readonly Block[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-documents-'));
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
  symlinkSync(packageRoot, join(folder, 'node_modules/dmabuf'));
  symlinkSync(here('node_modules/@types/node'), join(folder, 'node_modules/@types/node'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const files = blocks.map(({ document, line, language, code }) => {
    const file = `${document.replace(/\W/g, '-')}-${line}.${language}`;
    writeFileSync(join(folder, file), `${code}\nexport {};\n`);
    return file;
  });
  const compilerOptions = {
    target: 'es2022',
    lib: ['es2022', 'esnext.disposable'],
    module: 'nodenext',
    strict: true,
    noEmit: true,
    allowJs: true,
    checkJs: true,
    preserveSymlinks: true,
    skipLibCheck: true,
    types: ['node'],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const { status, stdout, stderr } = spawnSync(here('node_modules/.bin/tsc'), ['-p', folder], {
    encoding: 'utf8',
  });
  return status === 0 ? '' : `${stdout}${stderr}`;
}

/** What a program that reads code from its standard input thinks of it. */
function checkSyntax(program: string, args: readonly string[], code: string): void {
  const { status, stderr } = spawnSync(program, args, { input: code, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

const checks: Record<string, (block: Block) => void | Promise<void>> = {
  js: (block) => {
    if (runByTools.has(block.document)) {
      return checkSyntax(process.execPath, ['--check', '--input-type=module', '-'], block.code);
    }
    // The others are run.
    if (notInGuest.has(block.document)) assert.equal(compile([block]), '');
  },
  ts: (block) => assert.equal(compile([block]), ''),
  sh: ({ document, code }) => (runByTools.has(document) ? checkSyntax('sh', ['-n'], code) : checkShell(code)),
  json: ({ code }) => void JSON.parse(code),
  yaml: ({ code }) => assert.equal(typeof parseYaml(code), 'object'),
  python: ({ code }) => checkSyntax('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], code),
  ini: ({ code }) => {
    const path = /^# (\S+)\n/.exec(code)?.[1] ?? '';
    if (path.startsWith('/etc/udev/rules.d/')) return checkRules(code);
    assert.match(path, /^\/etc\/systemd\/system\/.*\.service$/, 'the first line must say which file it is');
    return checkUnit(code);
  },
  // What is neither code nor configuration: a command's output, or the layers of CONTRIBUTING.md with their folders.
  text: ({ document, code }) => {
    if (document !== 'CONTRIBUTING.md') {
      assert.ok(checkTable(code.split('\n')[0] ?? ''), 'no command has these columns');
      return;
    }
    for (const line of code.trimEnd().split('\n')) {
      const [folder = ''] = line.split(' ');
      assert.ok(folder !== '' && existsSync(here(folder)), `there is no folder ${folder}`);
    }
  },
};

describe('a code block', () => {
  for (const block of allBlocks()) {
    const { document, line, language } = block;
    it(`${document}:${line} (${language || 'no language'}) is right`, async () => {
      const check = checks[language];
      assert.ok(check, `nothing here checks blocks of the language '${language}'`);
      await check(block);
    });
  }
});

describe('a command in the text', () => {
  for (const document of documents) {
    const spans = prose(document).matchAll(/`((?:sudo |npx )*(?:dmabuf|npm) [^`]+)`/g);
    for (const span of new Set([...spans].map(([, code]) => code as string))) {
      it(`${document}: ${span}`, () =>
        // Capitals stand for what the reader knows.
        checkShell(
          span
            .replace(/\b(N|PID|FD)\b/g, '1')
            .replace(/\bCOMMAND\b/, 'node --test')
            .replace(/…/, ''),
        ));
    }
  }
});

describe('an option in the text', () => {
  for (const document of ['docs/command.md', 'docs/metrics.md', 'docs/vm.md']) {
    const spans = prose(document).matchAll(/`(--[\w-]+)[^`]*`/g);
    for (const option of new Set([...spans].map(([, name]) => name as string))) {
      it(`${document}: ${option} is one of the command`, async () => {
        const commands = await Promise.all(SUBCOMMANDS.map(({ load }) => load()));
        assert.ok(commands.some(({ options }) => options.some(({ long }) => long === option)));
      });
    }
  }
});

describe('a link', () => {
  const anchorsOf = (document: string): string[] =>
    [...textOf(document).matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      (title as string)
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    );
  for (const document of documents) {
    for (const { target, path, anchor } of linksOf(document)) {
      it(`${document}: ${target} leads somewhere`, () => {
        assert.ok(existsSync(here(path)), `there is no ${path}`);
        if (anchor !== undefined)
          assert.ok(anchorsOf(path).includes(anchor), `${path} has no heading #${anchor}`);
      });
    }
  }
});

describe('a list', () => {
  it('of guides is complete: docs/README.md', () => {
    const index = textOf('docs/README.md');
    for (const name of readdirSync(here('docs')).filter((entry) => entry !== 'README.md')) {
      assert.ok(index.includes(`](${name})`), name);
    }
  });

  it('of recipes for tools is the one that npm run prove:bundlers goes through: docs/bundlers.md', async () => {
    const path = pathToFileURL(here('scripts/bundlers/tools.mjs')).href;
    const { tools } = (await import(path)) as { tools: Record<string, unknown> };
    const sections = textOf('docs/bundlers.md').split(/^#{2,3} /m);
    const withRecipe = sections.filter((section) => /^```(js|sh)$/m.test(section));
    assert.deepEqual(
      withRecipe.map((section) => section.split('\n', 1)[0]),
      Object.keys(tools),
    );
  });

  it('of error codes is complete: README.md, and the doc comment of DmaBufError', () => {
    const folder = here('lib');
    const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.ts'),
    );
    const used = new Set<string>();
    for (const name of sources.filter((path) => !path.startsWith('vm/') && !/cli\/vm[^/]*$/.test(path))) {
      for (const [code] of readFileSync(join(folder, name), 'utf8').matchAll(/\bERR_DMABUF_[A-Z_]+\b/g))
        used.add(code);
    }
    const comment =
      /\/\*\*((?!\*\/).)*\*\/\nexport class DmaBufError/s.exec(textOf('lib/errors.ts'))?.[0] ?? '';
    for (const code of used) {
      assert.ok(textOf('README.md').includes(`\`${code}\``), `README.md: ${code}`);
      assert.ok(comment.includes(`\`${code}\``), `DmaBufError: ${code}`);
    }
    assert.ok(used.size > 8);
  });
});

describe('the environment variables', () => {
  // What the system, its containers and the tests set; that is nobody's to choose.
  const given = /^(PATH|XDG_RUNTIME_DIR|KUBERNETES_SERVICE_HOST|container|DMABUF_TEST_\w+)$/;
  const sources = readdirSync(here('lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => textOf(join('lib', name)));
  const read = sources.flatMap((source) =>
    [...source.matchAll(/\benv\.(\w+)/g)].map(([, name]) => name as string),
  );
  // Node.js reads these for debuglog() and styleText().
  const names = new Set([...read.filter((name) => !given.test(name)), 'NODE_DEBUG', 'NO_COLOR']);
  const manual = /^\.SH ENVIRONMENT\n(.*?)^\.SH /ms.exec(textOf('man/dmabuf.1'))?.[1] ?? '';
  const listed = new Set(
    [...manual.matchAll(/^\.BR? (.*)$/gm)].flatMap(
      ([, words = '']) => words.match(/\b[A-Z][A-Z_]+\b/g) ?? [],
    ),
  );

  it('that lib reads are those of the manual page', () => {
    assert.deepEqual([...listed].sort(), [...names].sort());
  });

  for (const name of names) {
    it(`are in a document: ${name}`, () => {
      assert.ok(documents.some((document) => textOf(document).includes(name)));
    });
  }
});

describe('these checks', () => {
  const block = (language: string, code: string, document = 'docs/vm.md'): Block => ({
    document,
    line: 1,
    language,
    code,
  });
  const refuses = async (made: Block, why: RegExp): Promise<void> => {
    await assert.rejects(async () => checks[made.language]?.(made), why);
  };

  it('find blocks, indented ones as well', () => {
    assert.deepEqual(blocksIn('a\n  ```js\n  b\n    c\n  ```\n```\nd\n```\n', 'x.md'), [
      { document: 'x.md', line: 3, language: 'js', code: 'b\n  c\n' },
      { document: 'x.md', line: 7, language: '', code: 'd\n' },
    ]);
    assert.throws(() => blocksIn('```js\na\n', 'x.md'), /not closed/);
  });

  it('read shell lines', () => {
    assert.deepEqual(commandsOf("A=1 a 'b c' > d 2>&1 # e\nf && g|h & i >&2; j"), [
      ['a', 'b c'],
      ['f'],
      ['g'],
      ['h'],
      ['i'],
      ['j'],
    ]);
  });

  const mistakes: [string, Block, RegExp][] = [
    ['a subcommand that there is not', block('sh', 'npx dmabuf lsof\n'), /there is no dmabuf lsof/],
    ['an option that there is not', block('sh', 'dmabuf ps --sorted rss\n'), /unknown option '--sorted'/],
    ['a value that an option does not take', block('sh', 'sudo dmabuf ps --sort colour\n'), /colour/],
    ['an argument too many', block('sh', 'dmabuf ps all\n'), /too many arguments/],
    ['a script that there is not', block('sh', 'npm run tests\n'), /no script tests/],
    ['an option of a script that there is not', block('sh', 'npm test -- --kernels 7.2\n'), /'--kernels'/],
    ['a test that there is not', block('sh', 'npm test -- kernel/nothing\n'), /kernel\/nothing/],
    ['what a command would run', block('sh', 'dmabuf diff -- npm run tests\n'), /no script tests/],
    ['what a shell would run', block('sh', "dmabuf vm -- sh -c 'cat a; dmabuf lsof' > b\n"), /dmabuf lsof/],
    ['another package', block('sh', 'npm install dma-buf\n'), /not known here/],
    ['a program that there is not', block('sh', 'node dist/examples/none.js\n'), /ENOENT/],
    ['an unknown program', block('sh', 'frobnicate\n'), /frobnicate/],
    ['JSON with a fault', block('json', '{ a: 1 }\n'), /JSON/],
    ['YAML with a fault', block('yaml', 'a: [1\n'), /./],
    ['Python with a fault', block('python', 'if x\n'), /SyntaxError/],
    ['TypeScript with a fault', block('ts', "import { nothing } from 'dmabuf';\n"), /nothing/],
    ['JavaScript that is not run, with a fault', block('js', "import { none } from 'dmabuf/vm';\n"), /none/],
    ['a unit with a fault', block('ini', '# /etc/systemd/system/a.service\nExecStart /bin/a\n'), /ExecStart/],
    [
      'a unit that starts nothing',
      block('ini', '# /etc/systemd/system/a.service\nExecStart=/b/dmabuf pni\n'),
      /pni/,
    ],
    ['a rule with a fault', block('ini', '# /etc/udev/rules.d/a.rules\nSUBSYSTEM="dma_heap"\n'), /SUBSYSTEM/],
    [
      'a recipe with a fault, in JavaScript',
      block('js', 'export default {;\n', 'docs/bundlers.md'),
      /SyntaxError/,
    ],
    ['a recipe with a fault, in shell', block('sh', 'npx a &&\n', 'docs/bundlers.md'), /./],
    ['a table that no command prints', block('text', 'PID  SIZE\n'), /columns/],
    ['a folder that there is not', block('text', 'src/  all\n', 'CONTRIBUTING.md'), /src\//],
  ];
  for (const [what, made, why] of mistakes) it(`find ${what}`, () => refuses(made, why));
});
