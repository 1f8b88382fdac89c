import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as zlib from 'node:zlib';
import { findProgram, run } from './process.js';

/** What a kernel was built with. */
export interface KernelConfig {
  /** Where it says so, for messages. */
  source: string;
  /** `y`, `m`, a number or a string, by the option's name without `CONFIG_`; what is not set is not in it. */
  values: ReadonlyMap<string, string>;
}

/** Reads a file as the kernel's build leaves it: `CONFIG_X=y` in lines, and comments. */
export function parseConfig(text: string, source: string): KernelConfig {
  const lines = text.matchAll(/^CONFIG_(\w+)=(.*)$/gm);
  return { source, values: new Map([...lines].map(([, name, value]) => [name as string, value as string])) };
}

/**
 * Finds the configuration of a kernel: as packages install it, in the image itself (CONFIG_IKCONFIG), or in the tree that it
 * was built in.
 */
export async function findConfig(
  kernel: { image: string; release: string; modulesDir: string | undefined },
  busybox: string,
): Promise<KernelConfig | undefined> {
  const folder = dirname(kernel.image);
  const installed = [
    join(folder, `config-${kernel.release}`),
    join(folder, 'config'),
    join('/boot', `config-${kernel.release}`),
    ...(kernel.modulesDir === undefined ? [] : [join(kernel.modulesDir, 'config')]),
  ];
  const built = [
    // arch/x86/boot/bzImage
    join(folder, '../../../.config'),
    ...(kernel.modulesDir === undefined ? [] : [join(kernel.modulesDir, 'build/.config')]),
  ];
  return firstOf(installed) ?? (await embeddedConfig(kernel.image, busybox)) ?? firstOf(built);
}

function firstOf(paths: readonly string[]): KernelConfig | undefined {
  for (const path of paths) {
    const config = existsSync(path) ? parseConfig(readFileSync(path, 'utf8'), path) : undefined;
    if (config !== undefined && config.values.size > 0) return config;
  }
  return undefined;
}

/** How much an unpacked kernel may have. */
const MOST_BYTES = 512 * 1024 * 1024;

/** Reads the configuration that a kernel has in itself; undefined where it has none, or is packed in a way nobody knows. */
async function embeddedConfig(image: string, busybox: string): Promise<KernelConfig | undefined> {
  try {
    const kernel = await unpack(payload(readFileSync(image)), busybox);
    const from = kernel.indexOf('IKCFG_ST');
    const to = kernel.indexOf('IKCFG_ED', from);
    if (from < 0 || to < 0) return undefined;
    const text = zlib.gunzipSync(kernel.subarray(from + 'IKCFG_ST'.length, to), {
      maxOutputLength: MOST_BYTES,
    });
    return parseConfig(text.toString(), `${image} (CONFIG_IKCONFIG)`);
  } catch {
    return undefined;
  }
}

/** The packed kernel in an image of x86, by the header of arch/x86/boot: 0x248 has its offset after the set-up code, 0x24c its length. */
function payload(image: Buffer): Buffer {
  if (image.toString('latin1', 0x38, 0x3c) === 'ARMd') return image; // It is the kernel itself.
  const start = ((image.readUInt8(0x1f1) || 4) + 1) * 512 + image.readUInt32LE(0x248);
  return image.subarray(start, start + image.readUInt32LE(0x24c));
}

/** The first bytes of each format that the kernel's build offers, and the program that unpacks it. */
const FORMATS: readonly [magic: string, program: string, argument: string][] = [
  ['fd377a585a00', 'busybox', 'xzcat'],
  ['28b52ffd', 'zstd', '-dcq'],
  ['02214c18', 'lz4', '-dcq'],
  ['425a68', 'busybox', 'bzcat'],
  ['5d0000', 'busybox', 'lzcat'],
  ['894c5a', 'lzop', '-dcq'],
];

async function unpack(packed: Buffer, busybox: string): Promise<Buffer> {
  if (packed.subarray(0, 2).toString('hex') === '1f8b') {
    return zlib.gunzipSync(packed, { maxOutputLength: MOST_BYTES });
  }
  const [magic, name = '', argument = ''] =
    FORMATS.find(([bytes]) => packed.toString('hex', 0, 6).startsWith(bytes)) ?? [];
  if (magic === undefined) return packed;
  // Node.js 22.15 and later have it.
  const { zstdDecompressSync } = zlib as { zstdDecompressSync?: (data: Buffer) => Buffer };
  if (name === 'zstd' && zstdDecompressSync !== undefined) return zstdDecompressSync(withoutLength(packed));
  const program = name === 'busybox' ? busybox : findProgram(name);
  if (program === undefined) return Buffer.alloc(0);
  // What follows the packed data (its length) makes some of them complain: what came out is what counts.
  return (await run(program, [argument], { input: packed })).stdout;
}

/** The kernel's build writes the length of what is packed behind it. */
function withoutLength(packed: Buffer): Buffer {
  return packed.subarray(0, -4);
}
