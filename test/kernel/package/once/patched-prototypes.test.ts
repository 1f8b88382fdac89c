// Programs patch prototypes, and not only their own. Whatever such a patch does, a script of test/inject ends, leaves nothing
// behind and throws nothing out of nowhere, and no patch is given what is the addon's.

import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { scripts } from '../../../inject/scripts.js';
import { kernelTest } from '../../../support/kernel-test.js';
import type { PatchedReply } from '../../../support/programs/patched-scripts.js';
import { whyNotScript } from '../../../support/script-tests.js';

const program = fileURLToPath(new URL('../../../support/programs/patched-scripts.js', import.meta.url));
let child: ChildProcess | undefined;
after(() => child?.kill());

/** Runs a script in the child, or in another one where it has died. */
async function perform(script: string): Promise<PatchedReply> {
  if (child?.connected !== true) {
    // Less than the child takes for endless.
    const env = { ...process.env, DMABUF_INJECT_PATIENCE: '20000' };
    child = fork(program, { execArgv: ['--expose-gc', '--no-warnings'], env });
  }
  const watching = new AbortController();
  const { signal } = watching;
  const died = once(child, 'exit', { signal }).then(([status, by]) => {
    throw new Error(`the process has ended with ${status ?? by}`);
  });
  try {
    const replied = once(child, 'message', { signal });
    child.send(script);
    const [reply] = await Promise.race([replied, died]);
    return reply as PatchedReply;
  } finally {
    died.catch(() => {});
    watching.abort();
  }
}

for (const script of Object.keys(scripts)) {
  kernelTest(
    `${script}: any function of the engine may throw, do nothing or lie`,
    async () => assert.deepEqual((await perform(script)).wrongs, []),
    whyNotScript(script),
  );
}
