import { isElf, programHeaders, sectionHeaders } from '../elf.js';

const PT_INTERP = 3;

/** Whether a 64-bit little-endian ELF program runs without a dynamic loader, and so without libraries. */
export function isStaticProgram(elf: Buffer): boolean {
  if (!isElf(elf)) return false;
  const { offset, entrySize, entries } = programHeaders(elf);
  for (let index = 0; index < entries; index += 1) {
    if (elf.readUInt32LE(offset + index * entrySize) === PT_INTERP) return false;
  }
  return true;
}

/** The content of a named section of a 64-bit little-endian ELF file. */
export function elfSection(elf: Buffer, wanted: string): Buffer | undefined {
  const { offset: table, entrySize, entries } = sectionHeaders(elf);
  const nameTable = elf.readUInt16LE(0x3e);
  const section = (index: number): { name: number; data: Buffer } => {
    const at = table + index * entrySize;
    const offset = Number(elf.readBigUInt64LE(at + 0x18));
    const size = Number(elf.readBigUInt64LE(at + 0x20));
    return { name: elf.readUInt32LE(at), data: elf.subarray(offset, offset + size) };
  };
  const names = section(nameTable).data;
  for (let index = 0; index < entries; index += 1) {
    const { name, data } = section(index);
    if (names.toString('latin1', name, names.indexOf(0, name)) === wanted) return data;
  }
  return undefined;
}
