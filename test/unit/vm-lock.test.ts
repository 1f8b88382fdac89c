import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { withLock } from '../../lib/vm/lock.js';

const steps = { what: 'doing something', progress: () => {} };

describe('withLock', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-test-'));
    path = join(folder, 'in', 'lock');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('lets one in at a time', async () => {
    let inside = 0;
    const work = async (): Promise<void> => {
      inside += 1;
      assert.equal(inside, 1);
      await new Promise((resolve) => setImmediate(resolve));
      inside -= 1;
    };
    await Promise.all([1, 2, 3].map(() => withLock(path, steps, work)));
  });

  it('lets the next one in when the work fails', async () => {
    await assert.rejects(
      withLock(path, steps, () => Promise.reject(new Error('no luck'))),
      /no luck/,
    );
    assert.equal(await withLock(path, steps, async () => 'in'), 'in');
  });

  it('is dropped when its holder is killed', async () => {
    const module = new URL('../../lib/vm/lock.js', import.meta.url).href;
    const holder = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      `import { withLock } from ${JSON.stringify(module)};
       await withLock(${JSON.stringify(path)}, { what: '', progress() {} }, () => new Promise(() => {
         console.log('held');
         setInterval(() => {}, 1000);
       }));`,
    ]);
    await once(holder.stdout, 'data');
    holder.kill('SIGKILL');
    assert.equal(await withLock(path, steps, async () => 'in'), 'in');
  });
});
