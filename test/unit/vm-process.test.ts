import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { run } from '../../lib/vm/process.js';
import { isRunning } from '../support/running.js';

/** Runs a shell script until it has written a line, aborts it, and resolves with the line when it is rejected. */
async function aborted(script: string, options: { mayFinish?: boolean } = {}): Promise<string> {
  const controller = new AbortController();
  let line = '';
  const onOutput = (chunk: Buffer): void => {
    line += chunk.toString();
    if (line.endsWith('\n')) controller.abort(new Error('enough'));
  };
  const all = { ...options, signal: controller.signal, onOutput };
  await assert.rejects(run('sh', ['-c', script], all), /^Error: enough$/);
  return line.trim();
}

describe('a program that is aborted', () => {
  it('is over, and all that it has started, when that is told', async () => {
    const pid = Number(await aborted('sleep 100000 & echo $!; wait'));
    assert.equal(isRunning(pid), false);
  });

  it('may end in its own time where it must not be cut off', async () => {
    const finish = "trap 'echo finishing; kill $child; wait; echo finished; exit' INT";
    const script = `${finish}; sleep 100000 & child=$!; echo begun; wait`;
    assert.equal(await aborted(script, { mayFinish: true }), 'begun\nfinishing\nfinished');
  });

  it('is not started when that was done before', async () => {
    await assert.rejects(
      run('no such program', [], { signal: AbortSignal.abort(new Error('enough')) }),
      /enough/,
    );
  });
});
