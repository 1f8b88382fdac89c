import { allocateSync, type DmaBuf, type DmaBufMapping } from 'dmabuf';

/** A mapped buffer full of sevens. */
export function filled(bytes: number = 64 * 1024): [DmaBuf, DmaBufMapping] {
  const buffer = allocateSync(bytes);
  const mapping = buffer.map();
  mapping.bytes.fill(7);
  return [buffer, mapping];
}

/** All bytes of the buffer, not by way of a mapping. */
export function contents(buffer: DmaBuf): Uint8Array {
  const bytes = new Uint8Array(buffer.size);
  buffer.read(bytes);
  return bytes;
}
