import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { noHeap } from '../support/needs.js';
import { scenarios } from './leaks.scenarios.js';
import { assertEnded, runChild, testTogether } from './run.js';
import type { Report } from './scenario.js';
import { scenarios as tracked } from './tracked-leaks.scenarios.js';

const cure =
  'was garbage-collected without close\\(\\)\\. Its file descriptor has been closed now; close it yourself, or declare ' +
  'it with using, which closes it at the end of the block\\. NODE_DEBUG=dmabuf or setHandleTracking\\(true\\) shows ' +
  'where such objects are made$';

function warningFor(what: string): RegExp {
  return new RegExp(`^\\(node:\\d+\\) \\[DMABUF_NOT_CLOSED\\] DmaBufWarning: ${what} ${cure}`);
}

testTogether(
  'who forgets to close is warned once for each type of object',
  new URL('./leaks.scenarios.js', import.meta.url),
  scenarios,
  {
    stderr: [
      'A DmaBuf of 65536 bytes \\(inode \\d+, system, "frame \\\\"7\\\\""\\)',
      'A DmaHeap',
      'A SyncFile',
      'A DmaBufChannel',
      'A DmaBufServer',
    ].map(warningFor),
  },
);

testTogether(
  'setHandleTracking(true): who forgets to close is told where',
  new URL('./tracked-leaks.scenarios.js', import.meta.url),
  tracked,
  { env: { NODE_OPTIONS: '--disable-warning=DMABUF_NOT_CLOSED' } },
);

describe('NODE_DEBUG=dmabuf', { skip: noHeap }, () => {
  test('the warning names the place, and shows a hostile name in printable characters', async () => {
    const file = new URL('./hostile-name.scenarios.js', import.meta.url);
    const env = { NODE_DEBUG: 'dmabuf' };
    const outcome = await runChild<Report>('child', [file.href, 'a hostile name'], { env });
    assert.deepEqual(outcome.reports, [{ name: 'a hostile name' }]);
    const warning =
      /^\(node:\d+\) \[DMABUF_NOT_CLOSED\] DmaBufWarning: A DmaBuf of 65536 bytes [\x20-\x7e]*It was made here:$/;
    const [first, place, ...others] = outcome.stderr.split('\n') as [string, string, ...string[]];
    assert.match(first, warning);
    assert.match(place, /^ {4}at .*\/hostile-name\.scenarios\.js:\d+:\d+\)?$/);
    for (const line of others) assert.match(line, /^ {4}at [\x20-\x7e]*$|^\(Use `node [\x20-\x7e]*$|^$/);
    assertEnded({ ...outcome, stderr: '' });
  });
});
