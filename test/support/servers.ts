import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { DmaBufChannel, type DmaBufServer } from 'dmabuf';
import type { Folder } from './channels.js';
import { nextText } from './messages.js';

/** Connects and accepts, and closes both: the server works, and is the one at that path. */
export async function assertServes(server: DmaBufServer, path: string = server.path): Promise<void> {
  using client = await DmaBufChannel.connect(path);
  using channel = await server.accept();
  await client.send('x');
  assert.equal(await nextText(channel), 'x');
}

/** Everything of a folder that could change. */
export function snapshot(folder: Folder): unknown {
  return readdirSync(folder.path)
    .sort()
    .map((name) => {
      const path = folder.file(name);
      const { ino, mode, mtimeMs, size } = lstatSync(path);
      const text = lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
      const data = lstatSync(path).isFile() ? readFileSync(path, 'utf8') : undefined;
      return { name, ino, mode, mtimeMs, size, text, data };
    });
}
