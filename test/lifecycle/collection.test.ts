import { scenarios } from './collection.scenarios.js';
import { testTogether } from './run.js';

function warningFor(kind: string): RegExp {
  return new RegExp(
    `^\\(node:\\d+\\) \\[DMABUF_NOT_CLOSED\\] DmaBufWarning: A ${kind} was garbage-collected`,
  );
}

testTogether(
  'garbage collection closes what was forgotten and takes nothing that is used',
  new URL('./collection.scenarios.js', import.meta.url),
  scenarios,
  [warningFor('DmaBuf'), warningFor('DmaHeap')],
);
