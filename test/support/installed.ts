import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { packageRoot } from './programs.js';

/** A project with a copy of the package as npm installs it, whose binary is the one that was built here. */
export interface Installed {
  readonly project: string;
  /** Of the package. */
  readonly folder: string;
  /** The binary that is loaded. */
  readonly binary: string;
}

export const ownBuild: string = join(packageRoot, 'build/Release/dmabuf.node');

/** Anybody may read it. The caller removes it. */
export function installCopy(): Installed {
  const project = mkdtempSync(join(tmpdir(), 'dmabuf-installed-'));
  chmodSync(project, 0o755);
  const folder = join(project, 'node_modules/dmabuf');
  for (const path of ['package.json', 'dist/package']) {
    cpSync(join(packageRoot, path), join(folder, path), { recursive: true });
  }
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  // As pnpm has them: the project itself does not find them.
  linkPackages(folder, Object.keys(dependencies));
  const binaries = join(folder, `prebuilds/linux-${process.arch}`);
  mkdirSync(binaries, { recursive: true });
  const binary = join(binaries, 'dmabuf.glibc.node');
  copyFileSync(ownBuild, binary);
  return { project, folder, binary };
}

/** Has a folder's code find these packages, which are installed here. */
export function linkPackages(folder: string, names: readonly string[]): void {
  for (const name of names) {
    const at = join(folder, 'node_modules', name);
    mkdirSync(dirname(at), { recursive: true });
    symlinkSync(join(packageRoot, 'node_modules', name), at);
  }
}

export interface Outcome {
  /** What was loaded, where it was. */
  loaded?: string;
  code?: string;
  message?: string;
  hint?: string;
  cause?: string;
}

const firstUse = `
  import { readFileSync } from 'node:fs';
  import { DmaBuf } from 'dmabuf';
  import 'dmabuf/inspect';
  const mapped = () => /\\S+\\.node$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0];
  const report = {};
  if (mapped()) report.loaded = 'on import';
  else try {
    DmaBuf.pageSize;
    report.loaded = mapped();
  } catch (error) {
    for (const name of ['code', 'message', 'hint']) report[name] = error[name];
    report.cause = error.cause?.message;
  }
  console.log(JSON.stringify(report));
`;

/** What comes of importing the package and using it: in a process of its own, after shell commands. */
export function useInstalled(
  { project }: Installed,
  how: {
    flags?: string[];
    env?: Record<string, string>;
    before?: string;
    code?: string;
    uid?: number;
    /** Instead of this Node.js. */
    program?: string;
  } = {},
): Outcome {
  const { flags = [], env = {}, before, code = '', uid, program = process.execPath } = how;
  const args = [...flags, '--input-type=module', '-e', code + firstUse];
  const options = {
    cwd: project,
    encoding: 'utf8' as const,
    timeout: 60_000,
    env: { ...process.env, ...env },
    ...(uid !== undefined && { uid, gid: uid }),
  };
  const { status, stdout, stderr } =
    before === undefined
      ? spawnSync(program, args, options)
      : spawnSync(
          'unshare',
          ['--mount', 'sh', '-ec', `${before}; exec "$@"`, 'sh', program, ...args],
          options,
        );
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return JSON.parse(stdout) as Outcome;
}
