import { allocateSync, type DmaBuf, type SyncFile } from 'dmabuf';
import { addFence, type Fence } from './fences.js';

/** A buffer, a fence on it, and a file of that fence. */
export class Fenced implements Disposable {
  readonly buffer: DmaBuf = allocateSync(4096);
  readonly fence: Fence = addFence(this.buffer, 'write');
  readonly file: SyncFile = this.buffer.exportSyncFile('read');

  [Symbol.dispose](): void {
    this.fence[Symbol.dispose]();
    this.file.close();
    this.buffer.close();
  }
}
