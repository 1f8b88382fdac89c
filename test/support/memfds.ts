import { readFileSync, writeFileSync } from 'node:fs';
import { loadFences } from './fences.js';

/** What createMemfd() does not offer. */
export interface OddMemfd {
  /** Whether seals can be added. Default true. */
  sealing?: boolean;
  /** F_SEAL_SEAL 1, SHRINK 2, GROW 4, WRITE 8. Default: SHRINK. */
  seals?: number;
  /** Bytes; default one page. */
  size?: number;
}

/** Makes a memfd as nobody should: Node has no call for it, and the package makes only good ones. */
export function makeMemfd({ sealing = true, seals = sealing ? 2 : 0, size = 4096 }: OddMemfd): number {
  return loadFences().makeMemfd(size, sealing ? 1 : 0, seals);
}

/** Sets udmabuf's limit on a buffer, in MiB, until the end of the block: kernels differ in it. Needs root. */
export function limitUdmabuf(megabytes: number): Disposable {
  const path = '/sys/module/udmabuf/parameters/size_limit_mb';
  const before = readFileSync(path, 'utf8');
  writeFileSync(path, String(megabytes));
  return { [Symbol.dispose]: () => writeFileSync(path, before) };
}
