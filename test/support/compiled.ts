import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from './programs.js';

/** The folder of the programs' sources. What is not TypeScript is not copied to dist. */
export const sources: string = join(packageRoot, 'test/support/programs');

/** For a processor, what compiles programs for it. */
interface Target {
  arch: string;
  compiler: readonly [string, ...string[]];
}

const here: Target = { arch: process.arch, compiler: ['gcc'] };

/** Compiles a C program of `test/support/programs`, once on this machine. */
export function compiled(name: string, { arch, compiler: [program, ...words] }: Target = here): string {
  const source = join(sources, `${name}.c`);
  const headers = readdirSync(sources).filter((file) => file.endsWith('.h'));
  const files = [source, ...headers.map((header) => join(sources, header))];
  const changed = Math.max(...files.map((file) => statSync(file).mtimeMs));
  const place = join(tmpdir(), `dmabuf-programs-${arch}`);
  const binary = join(place, `dmabuf-test-${name}-${Math.trunc(changed)}`);
  if (existsSync(binary)) return binary;
  mkdirSync(place, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
  const output = join(folder, name);
  execFileSync(program, [...words, '-Wall', '-Wextra', '-Werror', '-pthread', '-o', output, source], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  renameSync(output, binary);
  rmSync(folder, { recursive: true });
  return binary;
}

/** Compiles all of them: guests find them then, and need no compiler, which takes ten times as long there. */
export function compileAll(target?: Target): void {
  for (const name of readdirSync(sources)) if (name.endsWith('.c')) compiled(name.slice(0, -2), target);
}
