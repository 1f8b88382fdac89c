import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { DmaBuf, type Sendable, SyncFile } from 'dmabuf';

/** What a handle that a message brought was recognised for. */
export function kindOf(handle: Sendable): 'DmaBuf' | 'SyncFile' | 'number' {
  if (handle instanceof DmaBuf) return 'DmaBuf';
  return handle instanceof SyncFile ? 'SyncFile' : 'number';
}

export function closeEach(handles: readonly Sendable[]): void {
  for (const handle of handles) {
    if (typeof handle === 'number') closeSync(handle);
    else handle.close();
  }
}

export function asBuffer(handle: Sendable | undefined): DmaBuf {
  assert.ok(handle instanceof DmaBuf, `${handle} is no DmaBuf`);
  return handle;
}

export function asNumber(handle: Sendable | undefined): number {
  assert.ok(typeof handle === 'number', `${handle} is no number`);
  return handle;
}
