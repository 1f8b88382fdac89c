// BPF file systems of a test's own, and what other users do in them.

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compiled } from './compiled.js';

import { packageRoot } from './programs.js';

/** Another user, without rights. */
export const stranger = { uid: 1000, gid: 1000 };

/** A BPF file system that ends with the test. Mode 1777 is what the kernel gives it, and everybody may make folders there. */
export class BpfMount implements Disposable {
  readonly path: string;

  constructor(mode = '1777') {
    this.path = mkdtempSync(join(tmpdir(), 'dmabuf-bpf-'));
    chmodSync(this.path, 0o755);
    execFileSync('mount', ['-t', 'bpf', '-o', `mode=${mode}`, 'bpf', this.path]);
  }

  file(name = 'dmabuf'): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    execFileSync('umount', [this.path]);
    rmdirSync(this.path);
  }
}

/** Runs shell commands as another user, in a folder that is $1. */
export function asStranger(commands: string, folder: string): void {
  execFileSync('sh', ['-ec', commands, 'sh', folder], { ...stranger, cwd: '/', stdio: 'inherit' });
}

/** Pins BPF maps, which are none of the library's. */
export function pinMaps(...paths: string[]): void {
  execFileSync(compiled('bpf-pins'), ['map', ...paths], { stdio: 'inherit' });
}

/** How the command ends. */
export function dmabuf(
  args: readonly string[],
  options: { uid?: number; gid?: number } = {},
): { status: number | null; stdout: string; stderr: string } {
  const main = join(packageRoot, 'dist/package/cli.js');
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', cwd: packageRoot, ...options });
}
