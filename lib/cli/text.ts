import prettyBytes from 'pretty-bytes';
import type { DmaBufError } from '../errors.js';

/** JSON without anything that a terminal would interpret: JSON.stringify() escapes only C0. */
export function toJson(value: unknown, indent?: number): string {
  const json = JSON.stringify(value, errorsAsObjects, indent);
  if (/^[\n -~]*$/.test(json)) return json;
  return json.replace(/[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const units = character.split('').map((unit) => unit.charCodeAt(0).toString(16).padStart(4, '0'));
    return units.map((unit) => `\\u${unit}`).join('');
  });
}

/** By what is there: `value` is what its toJSON() has made of it already. */
function errorsAsObjects(this: Record<string, unknown>, key: string, value: unknown): unknown {
  const original = this[key];
  if (!(original instanceof Error)) return value;
  const { code, hint } = original as Partial<DmaBufError>;
  return { code, message: original.message, hint };
}

const exponents: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4 };

/** Bytes of `4096`, `4k`, `1.5M`, `2GiB`: every unit is a power of 1024. Undefined for anything else. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  if (match === null) return undefined;
  const bytes = Number(match[1]) * 1024 ** (exponents[(match[2] ?? '').toLowerCase()] as number);
  return bytes <= Number.MAX_SAFE_INTEGER ? Math.ceil(bytes) : undefined;
}

/** Bytes in units (`12.3 MiB`), or as a plain number. A growth has a sign. */
export function formatSize(bytes: number, exact = false, signed = false): string {
  const whole = Math.round(bytes);
  if (!exact) return prettyBytes(whole, { binary: true, signed: signed && whole !== 0 });
  return `${signed && whole > 0 ? '+' : ''}${whole}`;
}

/** `1 buffer`, `2 buffers` */
export function count(number: number, thing: string): string {
  return `${number} ${thing}${number === 1 ? '' : thing.endsWith('s') ? 'es' : 's'}`;
}
