import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** An empty folder that any user may enter, for a file system of a test's. */
export class MountPoint {
  readonly path: string;

  constructor(parent: string = tmpdir()) {
    this.path = mkdtempSync(join(parent, 'dmabuf-mount-'));
    chmodSync(this.path, 0o755);
  }

  /** Takes away what is mounted there, also where its server is dead, and the folder. */
  remove(): void {
    removeMountPoint(this.path);
  }
}

/** The same for a folder that another process has made. */
export function removeMountPoint(path: string): void {
  if (readFileSync('/proc/self/mounts', 'utf8').includes(` ${path} `)) execFileSync('umount', ['-l', path]);
  rmdirSync(path);
}
