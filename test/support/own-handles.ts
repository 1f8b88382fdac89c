import assert from 'node:assert/strict';
import { allocateSync, type OpenHandle, openHandles, type SyncFile } from 'dmabuf';

/** The only handle that is open. */
export function only(): OpenHandle {
  const handles = openHandles();
  assert.equal(handles.length, 1, JSON.stringify(handles));
  return handles[0] as OpenHandle;
}

export function makeSyncFile(): SyncFile {
  using buffer = allocateSync(4096);
  return buffer.exportSyncFile('read');
}
