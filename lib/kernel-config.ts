import { release } from 'node:os';
import { bytesOf, textOf } from './text-file.js';

/** The options that the kernel was built with, and the file that says so. */
export interface KernelConfig {
  readonly path: string;
  readonly text: string;
}

/** Loaded only when needed, since it takes ten times as long as everything else and most programs never need it. */
function gunzip(packed: Buffer): string | undefined {
  return process.getBuiltinModule?.('node:zlib').gunzipSync(packed).toString();
}

function readConfig(): KernelConfig | undefined {
  const packed = bytesOf('/proc/config.gz');
  const unpacked = packed && gunzip(packed);
  if (unpacked !== undefined) return { path: '/proc/config.gz', text: unpacked };
  for (const path of [`/boot/config-${release()}`, `/lib/modules/${release()}/config`]) {
    const text = textOf(path);
    if (text !== undefined) return { path, text };
  }
  return undefined;
}

// A configuration never changes; if none was found, root may still load the module configs.
let known: KernelConfig | undefined;

/** How the running kernel was built; undefined if no file says so. */
export function kernelConfig(): KernelConfig | undefined {
  known ??= readConfig();
  return known;
}

/** An option's value: `'y'`, `'m'`, `'n'`. */
export function configured({ text }: KernelConfig, option: string): string {
  return new RegExp(`^${option}=(\\w+)$`, 'm').exec(text)?.[1] ?? 'n';
}

/** The first of `options` that the kernel was built without, if this is known. */
export function missingOption(options: readonly string[]): string | undefined {
  const config = kernelConfig();
  return config && options.find((option) => configured(config, option) === 'n');
}
