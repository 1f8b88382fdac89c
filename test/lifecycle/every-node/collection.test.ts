import { testTogether } from '../run.js';
import { scenarios } from './collection.scenarios.js';

function warningFor(kind: string): RegExp {
  return new RegExp(
    `^\\(node:\\d+\\) \\[DMABUF_NOT_CLOSED\\] DmaBufWarning: ${kind} was garbage-collected without close\\(\\)`,
  );
}

testTogether(
  'garbage collection closes what was forgotten and takes nothing that is used',
  new URL('./collection.scenarios.js', import.meta.url),
  scenarios,
  { stderr: [warningFor('A DmaBuf of 65536 bytes \\(inode \\d+, system\\)'), warningFor('A DmaHeap')] },
);
