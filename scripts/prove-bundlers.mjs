// npm run prove:bundlers: the recipes of docs/bundlers.md. Each tool builds a program that imports the packed package; what
// came out of it is run in another folder, where the package is not. npm run prove:bundlers -- esbuild ncc: some of them.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { recipesOf } from './bundlers/documented.mjs';
import { serveOnce } from './bundlers/serve.mjs';
import { tools } from './bundlers/tools.mjs';
import { npmPackage } from './cached.mjs';
import { pack } from './pack.mjs';
import { prebuildAll } from './prebuild.mjs';
import { root, setup } from './setup.mjs';

const say = (text) => process.stderr.write(`prove: ${text}\n`);

/** What the registry does not give is not run, and never counts as passed. */
class NotRun extends Error {}

function run(command, args, options) {
  const limits = { encoding: 'utf8', maxBuffer: 64 << 20, timeout: 600_000 };
  const { status, signal, error, stdout, stderr } = spawnSync(command, args, { ...limits, ...options });
  if (status === 0) return stdout;
  const what = error?.message ?? `exit ${status ?? signal}`;
  throw new Error(`${command} ${args.join(' ')}: ${what}\n${stdout ?? ''}${stderr ?? ''}`);
}

/** A project with a tool and the package, and the files of a recipe. */
async function makeProject(project, { packages, server }, { files }, tarball) {
  let installed;
  try {
    installed = await npmPackage(packages.join(' '), say);
  } catch (error) {
    throw new NotRun(error.message);
  }
  cpSync(installed, project, { recursive: true, verbatimSymlinks: true });
  const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', tarball];
  run('npm', args, { cwd: project });
  for (const [name, code] of Object.entries(files)) writeFileSync(join(project, name), code);
  const place = server ? join(project, 'app/use') : project;
  mkdirSync(place, { recursive: true });
  for (const name of ['use.mjs', server ? 'route.js' : 'program.mjs']) {
    cpSync(join(root, 'scripts/bundlers', name), join(place, name));
  }
}

/** What the program says came of it; an error unless it has used the addon that was moved along. */
function reportIn(output, moved) {
  const [, kind, json] = /^(used|refused): (.*)$/m.exec(output) ?? [];
  if (kind === undefined) throw new Error(`it has not said what came of it:\n${output}`);
  const report = JSON.parse(json);
  if (kind === 'refused') throw new Error(`${report.code}: ${report.message}`);
  if (!report.addon?.startsWith(`${moved}/`)) throw new Error(`it has loaded ${report.addon}`);
  if (report.received !== 'waited for') throw new Error(`it has received ${report.received}`);
  return report;
}

/** Builds, moves what was built away, and runs it there. */
async function prove(title, recipe, { folder, tarball }) {
  const tool = tools[title];
  const project = join(folder, `${title.replace(/\W+/g, '-')}-project`);
  const moved = project.replace(/-project$/, '-moved');
  await makeProject(project, tool, recipe, tarball);
  const bun = join(project, 'node_modules/@oven/bun-linux-x64/bin');
  const env = { ...process.env, PATH: `${bun}:${process.env.PATH}`, DMABUF_PACKAGE: tarball, CI: '1' };
  for (const script of recipe.commands) run('sh', ['-ec', script], { cwd: project, env });
  if (tool.result === undefined) {
    say(`${title}: ${tool.packages[0]}`);
    return undefined;
  }
  renameSync(join(project, tool.result), moved);
  if (tool.result === '.') rmSync(join(moved, 'node_modules/dmabuf'), { recursive: true });
  else renameSync(project, `${project}-left-behind`);
  const [program, ...args] = (tool.server ?? tool.command).map((part) =>
    part === 'node'
      ? process.execPath
      : part === 'bun'
        ? `${project}-left-behind/node_modules/@oven/bun-linux-x64/bin/bun`
        : part,
  );
  const command = [program, ...args];
  const output = tool.server ? await serveOnce(command, moved) : run(program, args, { cwd: moved });
  const { addon, buffer } = reportIn(output, moved);
  if (buffer !== 'ERR_DMABUF_NO_SOURCE') throw new Error(`without a heap it got ${buffer}`);
  say(`${title}: ${tool.packages[0]}, with ${addon.slice(moved.length + 1)}`);
  return { title, moved, command };
}

/** The same on a real kernel, where the buffer is one. */
function proveInGuest({ title, moved, command }) {
  const script = `cd '${moved}' && DMABUF_SOURCE=system ${command.map((part) => `'${part}'`).join(' ')}`;
  const args = [join(root, 'dist/package/cli.js'), 'vm', '--', 'sh', '-c', script];
  const { buffer } = reportIn(run(process.execPath, args, { cwd: root }), moved);
  if (buffer !== 'bundled from system: 1,2,3') throw new Error(`on a real kernel it got ${buffer}`);
  say(`${title}: a buffer on a real kernel`);
}

const titles = Object.keys(tools);
const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !titles.some((title) => title.includes(name)));
if (unknown.length > 0) {
  say(`there is no recipe for ${unknown.join(', ')}, only for ${titles.join('; ')}`);
  process.exit(2);
}

setup();
await prebuildAll();
const recipes = recipesOf(join(root, 'docs/bundlers.md'));
/** Outside of this repository, where `import 'dmabuf'` would find it; and not below /tmp, which a guest has for itself. */
const folder = mkdtempSync('/var/tmp/dmabuf-bundlers-');
const failed = [];
const notRun = [];
try {
  const { tarball } = pack(folder);
  const wanted = titles.filter((title) => chosen.length === 0 || chosen.some((name) => title.includes(name)));
  for (const title of wanted) {
    try {
      const recipe = recipes.get(title);
      if (recipe === undefined) throw new Error('docs/bundlers.md has no recipe for it');
      const proof = await prove(title, recipe, { folder, tarball });
      if (tools[title].inGuest) proveInGuest(proof);
    } catch (error) {
      (error instanceof NotRun ? notRun : failed).push(title);
      say(`${title} ${error instanceof NotRun ? 'was NOT RUN' : 'FAILED'}: ${error.message}`);
    }
  }
  const passed = wanted.length - failed.length - notRun.length;
  say(
    `${passed} of ${wanted.length} passed; failed: ${failed.join('; ') || 'none'}; not run: ${notRun.join('; ') || 'none'}`,
  );
  if (failed.length > 0) process.exitCode = 1;
} finally {
  if (process.env.KEEP) say(folder);
  else rmSync(folder, { recursive: true, force: true });
}
