// Runs as an ordinary user. DMABUF_TEST_FOLDER: root's, with sockets that may not be used.

import { spawnSync } from 'node:child_process';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { DmaBufChannel } from 'dmabuf';
import { Folder } from '../channels.js';
import { errorOf, type ReportedError } from '../expect.js';
import { report } from '../programs.js';

export interface UnprivilegedServerReport {
  connectLive: ReportedError;
  listenInFolder: ReportedError;
  listenAtLive: ReportedError;
  listenAtStale: ReportedError;
  /** A dead server's file that may be connected to, and not removed. */
  listenAtOpenStale: ReportedError;
  /** By mode: listening where an own server with that mode died. */
  ownStale: Record<string, string>;
}

const folder = process.env.DMABUF_TEST_FOLDER as string;
const at = (name: string): string => join(folder, name);

/** A server that exits without close(). */
function dieListening(path: string, mode: number): void {
  const code = `import('dmabuf').then(({ DmaBufChannel }) => {
    DmaBufChannel.listen(${JSON.stringify(path)}, { mode: ${mode} });
    process.reallyExit(0);
  })`;
  spawnSync(process.execPath, ['-e', code], { stdio: 'inherit' });
}

function listenAgain(mode: number): string {
  using own = new Folder();
  dieListening(own.file(), mode);
  if (!lstatSync(own.file()).isSocket()) return 'no socket was left';
  try {
    DmaBufChannel.listen(own.file()).close();
    return 'listens';
  } catch (error) {
    return (error as Error).message;
  }
}

const ownStale: Record<string, string> = {};
for (const mode of [0, 0o400, 0o600]) ownStale[mode.toString(8)] = listenAgain(mode);

const observed: UnprivilegedServerReport = {
  connectLive: await errorOf(() => DmaBufChannel.connect(at('live'))),
  listenInFolder: await errorOf(() => DmaBufChannel.listen(at('new'))),
  listenAtLive: await errorOf(() => DmaBufChannel.listen(at('live'))),
  listenAtStale: await errorOf(() => DmaBufChannel.listen(at('stale'))),
  listenAtOpenStale: await errorOf(() => DmaBufChannel.listen(at('open-stale'))),
  ownStale,
};
report(observed);
