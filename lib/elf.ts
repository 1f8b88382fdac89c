// ELF files of 64 bits, little-endian, as on all machines that this package is built for.

/** A table of equal entries in an ELF file. */
export interface ElfTable {
  readonly offset: number;
  readonly entrySize: number;
  readonly entries: number;
}

/** The length of the header, which contains the positions of the tables. */
export const elfHeaderSize = 64;

/** The length of a program header. */
export const programHeaderSize = 56;

/** Whether these bytes begin like such a file, and contain its whole header. */
export function isElf(start: Buffer): boolean {
  return start.length >= elfHeaderSize && start.toString('latin1', 0, 6) === '\x7fELF\x02\x01';
}

/** ELF's number of the processor that a file is for. */
export function machineOf(header: Buffer): number {
  return header.readUInt16LE(0x12);
}

/** Where the program headers are: they say what is mapped, and what else the loader needs. */
export function programHeaders(header: Buffer): ElfTable {
  return {
    offset: Number(header.readBigUInt64LE(0x20)),
    entrySize: header.readUInt16LE(0x36),
    entries: header.readUInt16LE(0x38),
  };
}

/** Where the section headers are, at the end of the file as linkers write it. */
export function sectionHeaders(header: Buffer): ElfTable {
  return {
    offset: Number(header.readBigUInt64LE(0x28)),
    entrySize: header.readUInt16LE(0x3a),
    entries: header.readUInt16LE(0x3c),
  };
}

/** Where a table ends. */
export function endOf({ offset, entrySize, entries }: ElfTable): number {
  return offset + entrySize * entries;
}

/** The end of the bytes of the file that a program header describes. */
export function endOfSegment(elf: Buffer, at: number): number {
  return Number(elf.readBigUInt64LE(at + 0x08)) + Number(elf.readBigUInt64LE(at + 0x20));
}
