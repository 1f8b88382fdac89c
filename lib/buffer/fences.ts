import { type Access, directionOf, invalidType } from '../check.js';
import { unsupportedKernel } from '../errors.js';
import { createSyncFile, isSyncFile, type SyncFile, slotOfSyncFile } from '../fence/sync-file.js';
import { native } from '../native.js';
import type { OpenBuffer } from './open-buffer.js';

/** The fences that an access would have to wait for, as a sync_file. */
export function exportFences({ slot }: OpenBuffer, access: Access): SyncFile {
  const direction = directionOf(access);
  return unsupportedKernel('DMA_BUF_IOCTL_EXPORT_SYNC_FILE', '6.0', () =>
    createSyncFile(native.exportSyncFile(slot, direction)),
  );
}

/** Adds a sync_file's fences to a buffer. */
export function importFences({ slot }: OpenBuffer, file: SyncFile, access: Access): void {
  if (!isSyncFile(file)) throw invalidType('file', 'a SyncFile', file);
  const direction = directionOf(access);
  const fences = slotOfSyncFile(file);
  unsupportedKernel('DMA_BUF_IOCTL_IMPORT_SYNC_FILE', '6.0', () =>
    native.importSyncFile(slot, fences, direction),
  );
}
